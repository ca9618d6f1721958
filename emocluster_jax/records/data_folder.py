"""Data directories on disk: found and reused, prepared in a folder beside their place, moved there by one rename."""

from __future__ import annotations

import errno
import os
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import filelock

from emocluster_jax.errors import InputError
from emocluster_jax.records.preparation import FILE_NAME, Preparation, read_preparation
from emocluster_jax.storage.atomic_files import beside, remove, remove_leftovers, replacing
from emocluster_jax.storage.disk import AGAIN, writing

_LOCK = "lock"
_REQUEST = "request.sha256"
_FINISHED = "finished"
_NAME_LENGTH = 16


def existing_preparation(data_dir: Path, requests: Collection[str]) -> Preparation | None:
    """The preparation in `data_dir` if one of these requests made it, None if there is nothing; InputError if there is
    something else, or no directory can be put there."""
    if data_dir.exists() and not data_dir.is_dir():
        raise InputError(f"{data_dir} is a file; give another `data_dir`")
    if (data_dir / FILE_NAME).exists():
        preparation = read_preparation(data_dir)
        if preparation.request not in requests:
            raise InputError(
                f"{data_dir} holds other prepared data (corpus {preparation.corpus}, from {preparation.source}, with "
                "other recordings, labels or settings); give another `data_dir` or remove it"
            )
        return preparation
    if data_dir.is_mount():
        raise InputError(f"{data_dir} is a mount point, which nothing can be renamed to; give a folder below it")
    try:
        has_files = data_dir.is_dir() and any(data_dir.iterdir())
    except OSError as error:
        raise InputError(f"{data_dir} cannot be read: {error.strerror}; give another `data_dir`") from None
    if has_files:
        raise InputError(
            f"{data_dir} is not a prepared data directory and holds other files; give another `data_dir`, such as a "
            "new folder"
        )
    return None


@contextmanager
def unfinished_folder(data_dir: Path, request_sha256: str) -> Iterator[Path]:
    """A folder in `DATA_DIR.preparing`, which is locked, with what an earlier run of the same request left there.

    Its name is the request's: workers on other machines may outlive the process that started them, and must not write
    into another request's folder.

    Raises:
      InputError: another process is at it, the folder cannot be made or is not one of these, or the disk is full.
    """
    folder = beside(data_dir, "{}.preparing")
    request = folder / _REQUEST
    mine = False
    try:
        # A run that was killed as it began has left the lock, or the request under its temporary name.
        begun = (_LOCK, f".{request.stem}.*.partial{request.suffix}")
        others = [path for path in folder.glob("*") if not any(map(path.match, begun))]
        if others and not request.exists():
            raise InputError(
                f"{folder} is in the way and no unfinished preparation; move it or give another `data_dir`"
            )
        folder.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(folder / _LOCK, timeout=0):
            mine = True
            if not _is_request(request, request_sha256):
                _empty(folder)
                with replacing(request) as temporary:
                    temporary.write_text(request_sha256)
            work = folder / request_sha256[:_NAME_LENGTH]
            work.mkdir(exist_ok=True)
            remove_leftovers(work)
            with writing(data_dir.parent, f"{AGAIN}, it goes on from here"):
                yield work
    except filelock.Timeout:
        raise InputError(f"another process is preparing {data_dir} right now; wait for it to end") from None
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EROFS, errno.EPERM, errno.ENOTDIR, errno.EISDIR, errno.EEXIST):
            raise InputError(f"{folder} cannot be written: {error.strerror}; give another `data_dir`") from None
        with writing(data_dir.parent, AGAIN):
            raise
    finally:
        if mine and not request.exists():
            # After the lock is let go: NFS cannot remove a file that is held open, nor the folder that it is in.
            with suppress(OSError):
                (folder / _LOCK).unlink()
                folder.rmdir()


def clear_unfinished(data_dir: Path, request_sha256: str) -> None:
    """Removes what a run of this request that was killed just after it had published `data_dir` left beside it."""
    folder = beside(data_dir, "{}.preparing")
    request = folder / _REQUEST
    if folder.is_dir() and (not request.exists() or _is_request(request, request_sha256)):
        with suppress(InputError), unfinished_folder(data_dir, request_sha256) as work:
            discard(work)


def discard(folder: Path) -> None:
    """Empties the `DATA_DIR.preparing` of an unfinished folder; it is removed when its lock is released."""
    _empty(folder.parent)


def finished_folder(folder: Path) -> Path:
    """The folder inside an unfinished one that becomes the data directory, with the records that it has already."""
    finished = folder / _FINISHED
    finished.mkdir(exist_ok=True)
    for path in finished.glob("*.json"):  # written anew
        remove(path)
    return finished


def publish(folder: Path, data_dir: Path) -> None:
    """Puts the finished folder in its place, safely on disk, and removes the rest."""
    finished = folder / _FINISHED
    for path in finished.iterdir():
        _sync(path)
    _sync(finished)
    finished.rename(data_dir)
    _sync(data_dir.parent)
    discard(folder)


def _is_request(path: Path, request_sha256: str) -> bool:
    return path.is_file() and path.stat().st_size == len(request_sha256) and path.read_text("latin-1") == request_sha256


def _empty(folder: Path) -> None:
    """Removes all but the lock; the request goes last, so that a half-emptied folder is known for what it is."""
    for path in sorted(folder.iterdir(), key=lambda path: path.name == _REQUEST):
        if path.is_dir() or path.name != _LOCK:
            remove(path)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
