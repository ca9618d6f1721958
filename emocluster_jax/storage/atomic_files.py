"""Files that appear whole or not at all."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

_NAME_BYTES = 255
"""The longest name on nearly all file systems."""
_STEM_BYTES, _SUFFIX_BYTES = 40, 16
"""The most that a temporary name takes from the final one."""


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary file beside `path` to write to; it replaces `path` if the block ends without an error.

    Whenever the process is killed, readers find the old file or the new one, never a part.
    """
    temporary = temporary_name(path)
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def replacing_csv(path: Path, **options: Any) -> Iterator[Any]:
    """A `csv.writer` with these options; its UTF-8 file replaces `path` as in `replacing`."""
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        yield csv.writer(_UnixLines(file), **options)


class _UnixLines:
    """Ends rows with "\\n", where `csv.writer` quotes a carriage return in a field only if its row ends have one."""

    def __init__(self, file: TextIO) -> None:
        self._file = file

    def write(self, row: str) -> None:
        self._file.write(row.removesuffix("\r\n") + "\n")


def temporary_name(path: Path) -> Path:
    """A new name beside `path`, similar to it and of at most 82 bytes.

    The suffix stays at the end, as writers such as NumPy's and Matplotlib's depend on it.
    """
    stem, suffix = path.stem, path.suffix
    if len(os.fsencode(suffix)) > _SUFFIX_BYTES:
        stem, suffix = path.name, ""
    # Not by process id: another machine on a shared file system may use the same one.
    return path.with_name(f".{_shortened(stem, _STEM_BYTES)}.{secrets.token_hex(8)}.partial{suffix}")


def beside(path: Path, form: str) -> Path:
    """The path beside `path` with the name `form`, in which `{}` stands for the name of `path`.

    If that has more than 255 bytes, a part of the name and its hash take its place.
    """
    name = form.format(path.name)
    if len(os.fsencode(name)) > _NAME_BYTES:
        sha256 = hashlib.sha256(os.fsencode(path.name)).hexdigest()
        name = form.format(f"{_shortened(path.name, _STEM_BYTES)}.{sha256}")
    return path.with_name(name)


def _shortened(name: str, length_bytes: int) -> str:
    # Some file systems refuse the rest of a character that was cut, which is not UTF-8.
    return name.encode("utf-8", "surrogateescape")[:length_bytes].decode("utf-8", "ignore")


def remove_leftovers(folder: Path, names: str = "*") -> None:
    """Removes temporary files of `replacing` and Orbax that killed writers left in a folder, if it exists.

    Nobody may be writing a file that matches the pattern `names`; such files have short names.
    """
    for pattern in (f".{names}.partial*", f"{names}.orbax-checkpoint-tmp*"):
        for path in folder.glob(pattern):
            remove(path)


def remove(path: Path) -> None:
    """Removes a file, or a folder with all that is in it."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """Writes `value` as indented JSON, atomically; ValueError for NaN and infinite numbers."""
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    with replacing(path) as temporary:
        # File names may have bytes that are not UTF-8; they are escaped as JSON does, and read back.
        temporary.write_text(text, "utf-8", "backslashreplace")
