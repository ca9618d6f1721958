"""What ties the files of a work directory to its run: each names the run by its id, `training.workdir.SavedRun.id`."""

from __future__ import annotations

from pathlib import Path

from emocluster_jax.errors import InputError

RUN_ENTRY = "run"
"""Of the files that name their run. A run that an earlier version began has no id, and its files have no such entry."""


def check_run(path: Path, found: object, run_id: str) -> None:
    """Checks that a file of a work directory is of its run.

    Args:
      path: the file, for the message.
      found: the run that it names, as it was read; "" where it names none.
      run_id: of the work directory's run.

    Raises:
      InputError: it is of another run.
    """
    if found != run_id:
        names = found[:40] if isinstance(found, str) and found else "none" if found == "" else "something else"
        raise InputError(
            f"{path} is not of the run beside it, which is {run_id or 'of an earlier version'}: it names {names}; put "
            "back the run's own file, or move this one away"
        )
