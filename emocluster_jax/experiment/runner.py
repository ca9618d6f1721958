"""Runs the runs of a grid one after another, each in a process of its own."""

from __future__ import annotations

import os
import shlex
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import filelock

from emocluster_jax.console import Console
from emocluster_jax.errors import InputError
from emocluster_jax.experiment.completed import is_complete, read_completed
from emocluster_jax.experiment.grid import Plan, Run
from emocluster_jax.runtime.child_processes import run_child
from emocluster_jax.training.workdir import is_locked

LOG = "train.log"
"""What a run prints, in its work directory; a resumed run adds to it."""
# Not the lock of training itself, which must not find it taken by a process that only checks whether a run is going on.
_LOCK = ".experiment.lock"
_TAIL_BYTES = 4_096


def run_all(plan: Plan, runs: Sequence[Run], command: Callable[[Run], Sequence[str]], console: Console) -> list[Path]:
    """Runs what is not complete, resuming runs that were stopped, and returns the logs of those that failed.

    Several processes may work on the same grid: one of them takes a run, and the others skip it. A run is also skipped
    while somebody trains in its work directory by other means. `command` gives the command line that trains or resumes.

    Raises:
      InputError: nothing can be written in the plan's work directory.
    """
    todo = [run for run in runs if not is_complete(plan, run)]
    if len(todo) < len(runs):
        console.line(f"{len(runs) - len(todo)} of {len(runs)} runs are complete already")
    failed = []
    with console.task("runs", len(todo)) as task:
        for number, run in enumerate(todo, start=1):
            task.describe(run.name)
            which = f"[{number}/{len(todo)}] {run.name}"
            started = time.monotonic()
            folder = plan.folder(run)
            with _taken(folder) as taken:
                # Another process may have completed it since it was put on the list.
                reason = _run(folder, command(run)) if taken and not is_complete(plan, run) else ""
                # Whatever its status: what it printed may be lost although all its files are written.
                done = read_completed(plan, run) if taken else None
                # Checked afterwards, since the check holds the lock for an instant and could disturb the run.
                elsewhere = not taken or (done is None and is_locked(folder))
            seconds = time.monotonic() - started
            if elsewhere:
                console.line(f"{which}: another process is running it")
            elif done is None:
                failed.append(folder / LOG)
                console.warn(f"{which} failed after {seconds:.0f} s: {reason}")
            else:
                console.line(f"{which}: test CCC {done.scores.ccc:z.3f} ({seconds:.0f} s)")
            task.advance()
    return failed


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


def _run(folder: Path, command: Sequence[str]) -> str:
    """Runs the command with its output added to the log; returns the last line that is not empty, and a signal."""
    log = folder / LOG
    with log.open("a", encoding="utf-8") as file:
        file.write(f"$ {shlex.join(command)}\n")
        file.flush()
        # Unbuffered, so that the log shows what has happened so far.
        status = run_child(command, environment=os.environ | {"PYTHONUNBUFFERED": "1"}, output=file.fileno())
    with log.open("rb") as file:
        file.seek(max(file.seek(0, os.SEEK_END) - _TAIL_BYTES, 0))
        lines = file.read().decode("utf-8", "replace").split("\n")
    last = next((line.strip() for line in reversed(lines) if line.strip()), "")
    return last if status >= 0 else f"ended by {signal.Signals(-status).name}; last line: {last}"
