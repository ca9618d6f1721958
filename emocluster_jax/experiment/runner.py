"""Runs the runs of a grid, one after another, each as a process of its own."""

from __future__ import annotations

import os
import shlex
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import filelock

from emocluster_jax.console import Console
from emocluster_jax.errors import InputError
from emocluster_jax.experiment.completed import is_complete, read_completed
from emocluster_jax.experiment.grid import Run
from emocluster_jax.experiment.plan import Plan
from emocluster_jax.runtime.child_processes import run_child
from emocluster_jax.training.workdir import is_locked

LOG = "train.log"
"""What a run prints, in its work directory; a resumed run adds to it."""
# Not the lock that training takes: whoever only looks whether a run is under way must not get in training's way.
_LOCK = ".experiment.lock"
_TAIL_BYTES = 4_096


@dataclass(frozen=True)
class Failure:
    """A run that did not end well.

    Attributes:
      run: what was run.
      reason: how it ended, and the last line that it printed.
      log: all that it printed.
    """

    run: Run
    reason: str
    log: Path


def run_all(plan: Plan, runs: Sequence[Run], console: Console) -> tuple[Failure, ...]:
    """Runs what is not complete, going on where a run was stopped; a run that fails does not keep the others back.

    Several processes may work on the same grid: each run is taken by one of them, and passed over by the others. So is
    one in whose work directory somebody trains without this function.

    Args:
      plan: where and how.
      runs: of the plan's grid.
      console: a line a run.

    Returns:
      The runs that failed.

    Raises:
      InputError: nothing can be written in the plan's work directory.
    """
    todo = [run for run in runs if not is_complete(plan, run)]
    if len(todo) < len(runs):
        console.line(f"{len(runs) - len(todo)} of {len(runs)} runs are complete already")
    failures: list[Failure] = []
    with console.task("runs", len(todo)) as task:
        for number, run in enumerate(todo, start=1):
            task.describe(run.name)
            which = f"[{number}/{len(todo)}] {run.name}"
            started = time.monotonic()
            with _taken(plan.folder(run)) as taken:
                # Another process may have completed it since it was put on the list.
                failure = _run(plan, run) if taken and not is_complete(plan, run) else None
                # Asked afterwards: who asks holds the lock for an instant, which is to be in nobody's way.
                elsewhere = not taken or (failure is not None and is_locked(plan.folder(run)))
            seconds = time.monotonic() - started
            if elsewhere:
                console.line(f"{which}: another process is running it")
            elif failure is not None:
                failures.append(failure)
                console.warn(f"{which} failed after {seconds:.0f} s: {failure.reason}")
            else:
                console.line(f"{which}: test CCC {read_completed(plan, run).scores.ccc:z.3f} ({seconds:.0f} s)")
            task.advance()
    return tuple(failures)


@contextmanager
def _taken(folder: Path) -> Iterator[bool]:
    """Whether a run's work directory, which is made, is this process's for the time being, or already another one's."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(folder / _LOCK, blocking=False)
        lock.acquire()
    except filelock.Timeout:
        yield False
        return
    except OSError as error:
        raise InputError(f"cannot write to {folder} ({error.strerror}); choose another `workdir`") from None
    try:
        yield True
    finally:
        lock.release()


def _run(plan: Plan, run: Run) -> Failure | None:
    log = plan.folder(run) / LOG
    command = plan.command(run)
    with log.open("a", encoding="utf-8") as file:
        file.write(f"$ {shlex.join(command)}\n")
        file.flush()
        # The log shows what has happened so far, and not what fits a buffer.
        status = run_child(command, environment=os.environ | {"PYTHONUNBUFFERED": "1"}, output=file.fileno())
    # Whatever its status: what it printed may be lost, and all that it wrote be there.
    if is_complete(plan, run):
        return None
    if status < 0:
        return Failure(run, f"ended by {signal.Signals(-status).name}; last line: {_last_line(log)}", log)
    return Failure(run, _last_line(log), log)


def _last_line(log: Path) -> str:
    """The last line that is not empty."""
    with log.open("rb") as file:
        file.seek(max(file.seek(0, os.SEEK_END) - _TAIL_BYTES, 0))
        lines = file.read().decode("utf-8", "replace").split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), "")
