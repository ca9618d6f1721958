"""An epoch's parts and the person who waits: told what runs and how long it took, and asked whether to stop."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from emocluster_jax.console import Task


@dataclass
class Stopwatch:
    """Seconds by part of the epoch."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Adds the time that the block takes to `seconds[name]`."""
        started = time.monotonic()
        yield
        self.seconds[name] = self.seconds.get(name, 0.0) + time.monotonic() - started


@dataclass(frozen=True)
class StageView:
    """What a stage tells of itself while it runs.

    Attributes:
      title: what to call the stage on the screen.
      task: advances by the chunks that are done.
      watch: told how long each part takes.
      stop: asked now and then whether to stop; the same on all processes.
      pause: asked after steps whether a checkpoint is due; the same on all processes.
    """

    title: str
    task: Task
    watch: Stopwatch
    stop: Callable[[], bool]
    pause: Callable[[], bool] = lambda: False

    @contextmanager
    def part(self, name: str, description: str) -> Iterator[None]:
        """Shows the description, and adds the time that the block takes to the epoch's part `name`."""
        self.task.describe(f"{self.title}: {description}")
        with self.watch.part(name):
            yield
