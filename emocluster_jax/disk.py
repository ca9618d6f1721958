"""What keeps a program from writing: a full disk, a directory that may only be read, a device that has gone."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from emocluster_jax.errors import InputError

AGAIN = "make room or mend it, and give the same command again"
"""What most commands have to advise."""

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_NOT_WRITABLE = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR)
_GONE = (errno.EIO, errno.ENODEV, errno.ENXIO, errno.ESTALE, errno.ENOTCONN)


@contextmanager
def writing(folder: Path, remedy: str) -> Iterator[None]:
    """Says in one line what keeps the block from writing in `folder`.

    Args:
      folder: where the block writes.
      remedy: what to do once there is room, or whatever it was is mended.

    Raises:
      InputError: the disk is full, the folder cannot be written, or its device has gone. All other errors go on.
    """
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        found = _disk_error(error)
        if found is None:
            raise
        what, reason = found
        raise InputError(f"{what} {folder}: {reason}; {remedy}") from error


def check_output_file(option: str, path: Path) -> None:
    """Raises InputError, in terms of the option that names it, where no file of this name can be written."""
    if path.is_dir():
        raise InputError(f"{option} {path} is a folder; give the name of a file in it")
    if not path.parent.is_dir():
        raise InputError(f"{option} {path}: there is no folder {path.parent}; create it, or give another file")
    if not os.access(path.parent, os.W_OK):
        raise InputError(f"{option} {path}: the folder {path.parent} cannot be written to; give another")


def _disk_error(error: BaseException | None) -> tuple[str, str] | None:
    """What is wrong with the disk, in two parts, if that is what this error or one that it came from says.

    Libraries that write in C++ raise errors of other types, which only their texts tell from others.
    """
    while error is not None:
        text = str(error)
        for what, numbers in (
            ("no space left in", _FULL),
            ("nothing can be written in", _NOT_WRITABLE),
            ("the disk fails under", _GONE),
        ):
            for number in numbers:
                own = isinstance(error, OSError) and error.errno is not None
                if error.errno == number if own else os.strerror(number) in text:  # type: ignore[attr-defined]
                    return what, os.strerror(number)
        error = error.__cause__
    return None
