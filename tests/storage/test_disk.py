"""What is said of a disk that cannot be written, and that other errors are left alone; what killed writers leave."""

from __future__ import annotations

import errno
import json
import os
import resource
import signal
from pathlib import Path

import pytest

from emocluster_jax.errors import InputError
from emocluster_jax.storage.atomic_files import beside, remove_leftovers, replacing, write_json
from emocluster_jax.storage.disk import check_output_file, check_output_folder, check_room, writing


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


@pytest.mark.parametrize(
    ("name", "suffix"),
    [
        ("a" * 251 + ".npz", ".npz"),
        ("\N{MUSICAL SYMBOL G CLEF}" * 62 + "音.csv", ".csv"),
        ("a." + "b" * 253, ".partial"),
        ("." * 255, ".partial"),
    ],
)
def test_a_name_may_be_as_long_as_the_file_system_has_it(tmp_path: Path, name: str, suffix: str) -> None:
    """255 bytes on all that are common; characters may have four bytes each."""
    assert len(os.fsencode(name)) in range(251, 256)
    with replacing(tmp_path / name) as temporary:
        assert len(os.fsencode(temporary.name)) < 100
        assert temporary.suffix == suffix
        temporary.write_text("whole")
    assert [path.name for path in tmp_path.iterdir()] == [name]
    (tmp_path / temporary.name).touch()
    remove_leftovers(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_temporary_names_of_names_that_are_not_utf_8(tmp_path: Path) -> None:
    path = Path(os.fsdecode(bytes(tmp_path) + b"/" + b"\xff\xfe" * 127))
    with replacing(path) as temporary:
        temporary.write_text("whole")
    assert path.read_text() == "whole"


def test_names_beside_are_told_apart_however_long_they_are(tmp_path: Path) -> None:
    assert beside(tmp_path / "data", "{}.preparing") == tmp_path / "data.preparing"
    long = [beside(tmp_path / ("音" * 84 + end), ".{}.rendering") for end in "ab"]
    assert len(set(long)) == 2
    for path in long:
        assert path.name.startswith(".音音") and path.name.endswith(".rendering")
        path.mkdir()


def test_json_gives_back_names_that_are_not_utf_8(tmp_path: Path) -> None:
    value = {"source": os.fsdecode(b"/a/\xff\xc3\xa9")}
    write_json(tmp_path / "a.json", value)
    assert json.loads((tmp_path / "a.json").read_text("utf-8")) == value


def test_an_output_that_can_be_written_is_tried_without_a_trace(tmp_path: Path) -> None:
    (tmp_path / "there.csv").write_text("kept")
    before = (tmp_path / "there.csv").stat()
    for name in (b"there.csv", b"x" * 255, b"\xff", b"-a\nb", "音".encode() * 85):
        check_output_file("--output", Path(os.fsdecode(bytes(tmp_path) + b"/" + name)))
    for name in (".", "new", "a/b/c", "音" * 85):
        check_output_folder("--workdir", tmp_path / name)
    assert list(tmp_path.iterdir()) == [tmp_path / "there.csv"]
    assert (tmp_path / "there.csv").stat() == before


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("folder", "is a folder; give the name of a file in it"),
        ("gone/a.csv", "there is no folder {tmp}/gone; create it"),
        ("file/a.csv", "there is no folder {tmp}/file; create it"),
        ("x" * 256, "File name too long"),
        ("音" * 86, "File name too long"),
        ("/".join(["x"] * 2100), "File name too long"),
        ("circle", "Too many levels of symbolic links"),
        ("pipe", "is a device or a pipe"),
        ("/proc/a.csv", "the folder /proc cannot be written to (No such file or directory); give another"),
    ],
)
def test_an_output_file_that_cannot_be_written(tmp_path: Path, path: str, reason: str) -> None:
    """Not even by root, to whom no folder is closed: /proc says by its mode that it can be written to."""
    before = _furnish(tmp_path)
    with pytest.raises(InputError) as error:
        check_output_file("--output", tmp_path / path)
    assert str(error.value).startswith("--output ") and reason.format(tmp=tmp_path) in str(error.value)
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("file", "file is a file; give a folder"),
        ("file/run/a", "run/a: {tmp}/file is a file; give a folder"),
        ("gone/" + "x" * 256 + "/a", "File name too long"),
        ("nowhere/run", "{tmp}/nowhere is a link that leads nowhere"),
        ("circle/run", "Too many levels of symbolic links"),
        (os.fsdecode(b"a\xffb/run"), "a\\udcffb/run: a folder of records or weights needs a name in UTF-8"),
        ("/proc/run/a", "cannot write to /proc/run/a (No such file or directory); choose another --workdir"),
    ],
)
def test_an_output_folder_that_cannot_be_made(tmp_path: Path, path: str, reason: str) -> None:
    before = _furnish(tmp_path)
    with pytest.raises(InputError) as error:
        check_output_folder("--workdir", tmp_path / path)
    assert reason.format(tmp=tmp_path) in str(error.value)
    assert sorted(tmp_path.iterdir()) == before


def _furnish(folder: Path) -> list[Path]:
    """Puts into a folder what is in an output's way."""
    (folder / "folder").mkdir()
    (folder / "file").touch()
    (folder / "circle").symlink_to("circle")
    (folder / "nowhere").symlink_to("gone")
    os.mkfifo(folder / "pipe")
    return sorted(folder.iterdir())


@pytest.mark.parametrize("native", [True, False])
def test_room_is_taken_and_given_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, native: bool) -> None:
    """Also where the operating system cannot reserve it, as on macOS."""
    if not native:
        monkeypatch.delattr(os, "posix_fallocate")
    check_room(tmp_path, 3 << 20)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2 << 20, limits[1]))
    try:
        with pytest.raises(InputError, match="no space left in"), writing(tmp_path, "make room"):
            check_room(tmp_path, 3 << 20)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)
    assert not list(tmp_path.iterdir())
