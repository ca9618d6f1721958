"""Disks that are full or may only be read, and records that vanish: one line, nothing lost, and the run goes on."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path

import pytest

from reliability.lives import Blow, Life, Lives
from reliability.runs import Undisturbed, predict, prepare, prepared, train, trained


def mounted(*arguments: object) -> None:
    done = subprocess.run(["mount", *map(str, arguments)], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"needs to mount small file systems: {done.stderr.strip()}")


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[None]:
    """A file system of that size at `folder`."""
    folder.mkdir()
    mounted("-t", "tmpfs", "-o", f"size={size}", "none", folder)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


@contextmanager
def read_only(folder: Path, at: Path) -> Iterator[None]:
    """The contents of `folder`, which may only be read, at another place."""
    at.mkdir()
    mounted("--bind", folder, at)
    try:
        mounted("-o", "remount,bind,ro", at)
        yield
    finally:
        subprocess.run(["umount", "-l", at], check=True)


@pytest.fixture
def disks() -> Iterator[Callable[[AbstractContextManager[None]], None]]:
    with ExitStack() as stack:
        yield stack.enter_context


def fill(ballast: Path) -> str:
    """A shell command that takes all that is left of a disk, to the last byte."""
    return f"cat /dev/zero > {ballast} 2>/dev/null"


def refused(life: Life, *parts: str) -> None:
    """The command ended by one line, as its last; there is no traceback."""
    assert life.status == 2, life.output
    last = life.output.splitlines()[-1]
    assert last.startswith("error: ") and all(part in last for part in parts), life.output
    assert "Traceback" not in life.output and "Exception in" not in life.output, life.output


def test_preparation_on_a_full_disk(
    lives: Lives, recordings: Path, undisturbed_preparation: Undisturbed, tmp_path: Path, disks
) -> None:
    disk, ballast = tmp_path / "disk", tmp_path / "disk" / "ballast"
    disks(small_disk(disk, "16m"))
    command = prepare(recordings, disk)
    for place in ("decoding for statistics: 16 more", "writing records: 16 more", "finished/emocluster-validation"):
        life = lives.live(command, disk, Blow(place, signal=0, shell=fill(ballast)))
        assert life.struck is not None, life.output
        refused(life, f"no space left in {disk}: No space left on device; free space", "it goes on from here")
        assert not (disk / "data").exists()
        ballast.unlink()
    assert lives.live(command, disk).status == 0
    assert prepared(disk) == undisturbed_preparation.left


@pytest.mark.usefixtures("thorough")
def test_training_on_a_full_disk(
    lives: Lives, records: Path, undisturbed_training: Undisturbed, tmp_path: Path, disks
) -> None:
    disk, ballast = tmp_path / "disk", tmp_path / "disk" / "ballast"
    disks(small_disk(disk, "8m"))
    disks(read_only(records, tmp_path / "records"))  # training only reads there
    command = train(tmp_path / "records", disk)
    for place, message in (
        ("epoch 1/2: validation", "no space left in"),  # no assignments
        ("os.rename assignments/", "no space left in"),  # no weights
        ("os.mkdir checkpoints", "no space left in"),
        ("epoch 2/2: stage I: embedding", "no space left in"),
        ("os.mkdir plots", "no space left in"),
    ):
        life = lives.live(command, disk / "work", Blow(place, signal=0, shell=fill(ballast)))
        assert life.struck is not None, life.output
        refused(life, f"{message} {disk / 'work'}", "free space", "go on with: python -m launch.train", "--resume")
        ballast.unlink()
    assert lives.live(command, disk / "work").status == 0
    assert trained(disk) == undisturbed_training.left


def test_prediction_on_a_full_disk(lives: Lives, recordings: Path, model: Path, tmp_path: Path, disks) -> None:
    disk, ballast = tmp_path / "disk", tmp_path / "disk" / "ballast"
    disks(small_disk(disk, "1m"))
    command = predict(model, recordings, disk / "table.csv")
    os.system(fill(ballast))
    life = lives.live(command, disk)
    refused(life, f"no space left in {disk}", "free space")
    assert [path.name for path in disk.iterdir()] == ["ballast"]
    ballast.unlink()
    assert lives.live(command, disk).status == 0
    assert len((disk / "table.csv").read_text().splitlines()) == 1 + 45


def test_directories_that_may_only_be_read(
    lives: Lives, recordings: Path, records: Path, model: Path, tmp_path: Path, disks
) -> None:
    there, fixed = tmp_path / "there", tmp_path / "fixed"
    shutil.copytree(model, there / "work" / "model")
    disks(read_only(there, fixed))
    refused(lives.live(prepare(recordings, fixed), fixed), f"cannot write to {fixed / 'data'} (Read-only file system)")
    for workdir in (fixed, fixed / "new"):
        refused(
            lives.live(train(records, workdir), fixed), f"cannot write to {workdir / 'work'} (Read-only file system)"
        )
    life = lives.live(predict(fixed / "work", recordings, fixed / "table.csv"), fixed)
    refused(life, f"the folder {fixed} cannot be written to")


@pytest.mark.usefixtures("thorough")
def test_records_that_vanish_during_training(lives: Lives, records: Path, tmp_path: Path) -> None:
    """Streamed: the directory is moved away, or emptied as a file server that is gone would have it."""
    undisturbed = tmp_path / "undisturbed"
    undisturbed.mkdir()
    # Of its own kind: to the bit, streamed chunks give what resident ones give only where XLA compiles them alike.
    assert lives.live([*train(records, undisturbed), "--feed", "streamed"], undisturbed).status == 0
    data, away = tmp_path / "data", tmp_path / "away"
    shutil.copytree(records, data)
    command = [*train(data, tmp_path), "--feed", "streamed"]
    for shell, message in (
        (f"truncate -s 0 {data}/*.array_record*", "is damaged since the run began"),
        (f"mv {data} {away}", "is gone since the run began"),
    ):
        life = lives.live(command, tmp_path / "work", Blow("epoch 2/2: stage I: embedding", signal=0, shell=shell))
        refused(life, message)
        shutil.rmtree(data, ignore_errors=True)
        shutil.copytree(records, data)
    assert lives.live(command, tmp_path / "work").status == 0
    assert trained(tmp_path) == trained(undisturbed)
