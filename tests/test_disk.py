"""What is said of a disk that cannot be written, and that other errors are left alone; what killed writers leave."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from emocluster_jax.atomic_files import remove_leftovers, replacing
from emocluster_jax.disk import writing
from emocluster_jax.errors import InputError


def full() -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def full_in_a_library() -> None:
    raise ValueError("RESOURCE_EXHAUSTED: Error writing /run/d/8: [OS error 28: No space left on device]")


def read_only() -> None:
    raise RuntimeError("cannot save") from OSError(errno.EROFS, os.strerror(errno.EROFS))


@pytest.mark.parametrize(
    ("fail", "message"),
    [
        (full, "no space left in run: No space left on device; make room"),
        (full_in_a_library, "no space left in run: No space left on device; make room"),
        (read_only, "nothing can be written in run: Read-only file system; make room"),
    ],
)
def test_a_disk_error_is_one_line(fail, message: str) -> None:
    with pytest.raises(InputError) as error, writing(Path("run"), "make room"):
        fail()
    assert str(error.value) == message


@pytest.mark.parametrize("defect", [ValueError("no space"), OSError("on fire"), FileNotFoundError(2, "gone")])
def test_other_errors_keep_their_traceback(defect: Exception) -> None:
    with pytest.raises(type(defect)) as error, writing(Path("run"), "make room"):
        raise defect
    assert error.value is defect


def test_what_killed_writers_left_is_removed(tmp_path: Path) -> None:
    kept = [tmp_path / "a.json", tmp_path / ".lock", tmp_path / "epoch-000001"]
    for path in kept:
        path.touch()
    temporaries = []
    for name in ("a.json", "a.b.npz"):
        with replacing(tmp_path / name) as temporary:
            temporary.touch()
            temporaries.append(temporary.name)
        (tmp_path / temporary.name).touch()
    (tmp_path / "epoch-000002.orbax-checkpoint-tmp").mkdir()
    (tmp_path / "epoch-000002.orbax-checkpoint-tmp" / "part").touch()
    remove_leftovers(tmp_path, "b.*")
    assert all((tmp_path / name).exists() for name in temporaries)
    remove_leftovers(tmp_path)
    assert sorted(tmp_path.iterdir()) == sorted([*kept, tmp_path / "a.b.npz"])
