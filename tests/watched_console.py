"""A console that prints nothing and keeps its tasks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from emocluster_jax.console import Console, Task


class WatchedConsole(Console):
    def __init__(self) -> None:
        super().__init__(quiet=True)
        self.tasks: list[Task] = []

    @contextmanager
    def task(
        self, description: str, total: int | None = None, unit: str = "", *, note: str = "", work: float | None = None
    ) -> Iterator[Task]:
        with super().task(description, total, unit, note=note, work=work) as task:
            self.tasks.append(task)
            yield task
