"""Runs the runs of a grid one after another, each in a process of its own."""

from __future__ import annotations

import os
import shlex
import signal
import time
from collections.abc import Callable, Iterator, Sequence
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
# Not the lock of training itself, which must not find it taken by a process that only checks whether a run is going on.
_LOCK = ".experiment.lock"
_TAIL_BYTES = 4_096


@dataclass(frozen=True)
class Failure:
    """A run that failed.

    Attributes:
      run: what was run.
      reason: how it ended, and the last line that it printed.
      log: all that it printed.
    """

    run: Run
    reason: str
    log: Path


def run_all(
    plan: Plan, runs: Sequence[Run], command: Callable[[Run], Sequence[str]], console: Console
) -> tuple[Failure, ...]:
    """Runs what is not complete, resuming runs that were stopped; the others go on when one fails.

    Several processes may work on the same grid: one of them takes a run, and the others skip it. A run is also skipped
    while somebody trains in its work directory by other means.

    Args:
      plan: the settings and folders of the runs.
      runs: of the plan's grid.
      command: the command line that trains a run, or resumes it.
      console: shows a line per run.

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
                failure = _run(plan, run, command(run)) if taken and not is_complete(plan, run) else None
                # Checked afterwards, since the check holds the lock for an instant and could disturb the run.
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
    """Makes a run's work directory and takes it for the block; False where another process has taken it."""
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


def _run(plan: Plan, run: Run, command: Sequence[str]) -> Failure | None:
    log = plan.folder(run) / LOG
    with log.open("a", encoding="utf-8") as file:
        file.write(f"$ {shlex.join(command)}\n")
        file.flush()
        # Unbuffered, so that the log shows what has happened so far.
        status = run_child(command, environment=os.environ | {"PYTHONUNBUFFERED": "1"}, output=file.fileno())
    # Whatever its status: what it printed may be lost although all its files are written.
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
