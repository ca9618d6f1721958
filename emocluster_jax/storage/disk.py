"""Errors of writing in one line: a full disk, a read-only folder, a device that has gone."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from emocluster_jax.errors import InputError
from emocluster_jax.storage.atomic_files import temporary_name

AGAIN = "free space or fix the disk, then run the same command again"
"""The remedy of most commands."""

_DISK_ERRORS = {
    "no space left in": (errno.ENOSPC, errno.EDQUOT, errno.EFBIG),
    "nothing can be written in": (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR),
    "the disk fails under": (errno.EIO, errno.ENODEV, errno.ENXIO, errno.ESTALE, errno.ENOTCONN),
}
_NO_FALLOCATE = (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS)
_BLOCK_BYTES = 1 << 20


@contextmanager
def writing(folder: Path, remedy: str) -> Iterator[None]:
    """Turns errors of the block's writing in `folder` into one line that ends with `remedy`.

    Raises:
      InputError: the disk is full, the folder cannot be written, or its device has gone. Other errors pass through.
    """
    try:
        yield
    except Exception as error:
        found = None if isinstance(error, InputError) else _disk_error(error)
        if found is None:
            raise
        what, reason = found
        raise InputError(f"{what} {folder}: {reason}; {remedy}") from error


def check_room(folder: Path, size: int) -> None:
    """Raises OSError if a folder's disk has no room for `size` bytes, which are reserved and freed at once.

    For writers with threads, which would fail on a full disk.
    """
    temporary = temporary_name(folder / "room")
    try:
        with temporary.open("wb") as file:
            try:
                os.posix_fallocate(file.fileno(), 0, size)
            except (AttributeError, OSError) as error:  # macOS does not have it, nor do some file systems
                if isinstance(error, OSError) and error.errno not in _NO_FALLOCATE:
                    raise
                for start in range(0, size, _BLOCK_BYTES):
                    file.write(bytes(min(_BLOCK_BYTES, size - start)))
    finally:
        temporary.unlink(missing_ok=True)


def check_output_file(option: str, path: Path) -> None:
    """Raises InputError, naming the option, if this file cannot be written: an empty one is created beside it."""
    there = check_path(option, path)
    if there is not None and stat.S_ISDIR(there.st_mode):
        raise InputError(f"{option} {path} is a folder; give the name of a file in it")
    if there is not None and not stat.S_ISREG(there.st_mode):
        raise InputError(f"{option} {path} is a device or a pipe, which no file can replace; give another name")
    if there is not None and not os.access(path, os.W_OK):
        raise InputError(f"{option} {path} is write-protected; remove it, or give another name")
    if not path.parent.is_dir():
        raise InputError(f"{option} {path}: there is no folder {path.parent}; create it, or give another file")
    temporary = temporary_name(path)
    try:
        temporary.open("xb").close()
        temporary.unlink()
    except OSError as error:
        raise InputError(
            f"{option} {path}: the folder {path.parent} cannot be written to ({error.strerror}); give another"
        ) from None


def check_output_folder(option: str, path: Path) -> None:
    """Raises InputError, naming the option, if this folder cannot be created or written to.

    To try, it creates an empty folder in it, or in its nearest parent that exists.
    """
    check_utf8(path)
    folder = path
    missing: list[str] = []
    while (there := check_path(option, folder)) is None:
        if folder.is_symlink():
            raise InputError(f"{option} {path}: {folder} is a link that leads nowhere; choose another")
        missing.append(folder.name)
        folder = folder.parent
    if not stat.S_ISDIR(there.st_mode):
        raise InputError(f"{option} {path}{'' if folder == path else f': {folder}'} is a file; give a folder")
    for name in missing:
        check_path(option, folder / name)  # names may be too long
    temporary = temporary_name(folder / "folder")
    try:
        temporary.mkdir()
        temporary.rmdir()
    except OSError as error:
        raise InputError(f"cannot write to {path} ({error.strerror}); choose another {option}") from None


def check_utf8(folder: Path) -> None:
    """Raises InputError if a folder's path is not UTF-8, as ArrayRecord and Orbax require."""
    try:
        os.path.abspath(folder).encode("utf-8")  # noqa: PTH100 (links stay)
    except UnicodeEncodeError:
        raise InputError(
            f"{folder}: a folder of records or weights needs a name in UTF-8; rename it, or choose another"
        ) from None


def check_path(option: str, path: Path) -> os.stat_result | None:
    """The path's status, None if nothing is there; InputError if it is too long, in a closed folder, or a circle of
    links."""
    try:
        return path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise InputError(f"{option} {path}: {error.strerror}; give another path") from None


def _disk_error(error: BaseException | None) -> tuple[str, str] | None:
    """What is wrong with the disk, in two parts, if this error or one of its causes is about that.

    Libraries in C++ raise errors of other types, which only their texts identify.
    """
    while error is not None:
        own = error.errno if isinstance(error, OSError) else None
        for what, numbers in _DISK_ERRORS.items():
            for number in numbers:
                if number == own or (own is None and os.strerror(number) in str(error)):
                    return what, os.strerror(number)
        error = error.__cause__
    return None
