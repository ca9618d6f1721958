"""Kills the writing of a model at each of its changes to files, and what mends it; see test_model_directory.py.

A training's part is played by a file, `checkpoint`, which names the epoch whose model counts. Every life is a fork, so
that the imports are done once, and no JAX is started before one. Prints how many kills there were, and after
how many of their mendings the old and the new model was the one that counts.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from emocluster_jax.inference.model_directory import (
    adopt_pending,
    model_epoch,
    read_model,
    save_model,
    settle,
    write_pending,
)
from emocluster_jax.storage.atomic_files import remove_leftovers
from emocluster_jax.storage.checksums import check_checksums
from small_models import small_model

CHANGES = ("os.mkdir", "os.rename", "os.remove", "os.rmdir")
FOR_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
OLD, NEW = 3, 4


def lived(life: Callable[[Path], object], folder: Path, last: int | None = None) -> bool:
    """Runs `life` on a folder, in a child that is killed before its change number `last` there; whether it ended."""
    if (pid := os.fork()) == 0:
        count = 0

        def audit(event: str, arguments: tuple[Any, ...]) -> None:
            nonlocal count
            writes = event == "open" and isinstance(arguments[2], int) and arguments[2] & FOR_WRITING
            if (event in CHANGES or writes) and str(arguments[0]).startswith(str(folder)):
                count += 1
                if count == last:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(audit)
        status = 1
        try:
            life(folder)
            status = 0
        except BaseException:
            sys.excepthook(*sys.exc_info())
        os._exit(status)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert status in (0, -signal.SIGKILL), status
    return status == 0


def epoch_ends(folder: Path) -> None:
    """As training does it."""
    write_pending(folder / "model", small_model(seed=NEW, origin={"epoch": NEW}))
    (folder / "checkpoint.partial").write_text(str(NEW))
    (folder / "checkpoint.partial").rename(folder / "checkpoint")
    adopt_pending(folder / "model")


def resume(folder: Path) -> None:
    remove_leftovers(folder / "model")
    settle(folder / "model", int((folder / "checkpoint").read_text()))


def check_whole(folder: Path) -> None:
    """A reader finds a whole model."""
    # By its checksums: Orbax would take half a second to read it.
    description = json.loads((folder / "model" / "model.json").read_text())
    check_checksums(folder / "model" / description["weights"], "")


def check_settled(folder: Path) -> None:
    """It is the checkpoint's, and nothing else is there."""
    check_whole(folder)
    assert model_epoch(folder / "model") == int((folder / "checkpoint").read_text())
    left = sorted(path.name for path in (folder / "model").iterdir())
    assert len(left) == 2 and left[0] == "model.json", left


def begin(folder: Path) -> None:
    (folder / "checkpoint").write_text(str(OLD))
    save_model(folder / "model", small_model(seed=OLD, origin={"epoch": OLD}))


def main(folder: Path) -> None:
    first = folder / "first"
    first.mkdir()
    assert lived(begin, first)
    found: dict[int, int] = {}
    ended, at = False, 0
    while not ended:
        at += 1
        killed = folder / f"killed-{at}"
        shutil.copytree(first, killed)
        ended = lived(epoch_ends, killed, at)
        assert lived(check_settled if ended else check_whole, killed)
        resumed, mending = False, 0
        while not resumed:
            mending += 1
            again = folder / "again"
            shutil.copytree(killed, again)
            resumed = lived(resume, again, mending)
            assert lived(check_settled if resumed else check_whole, again)
            assert lived(resume, again) and lived(check_settled, again)
            epoch = int((again / "checkpoint").read_text())
            found[epoch] = found.get(epoch, 0) + 1
            shutil.rmtree(again)
    assert lived(lambda folder: read_model(folder / "model"), killed)
    print(json.dumps({"kills": at - 1, "old": found[OLD], "new": found[NEW]}))


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
