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
"""Of a name, at most, on nearly all file systems."""
_STEM_BYTES, _SUFFIX_BYTES = 40, 16
"""What a temporary name has of the final one, at most."""


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary name beside `path` to write to; it takes the place of `path` when the block ends without an error.

    A reader, or a run resumed after a kill at any instant, finds the old file or the new one, never a part.
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
    """A `csv.writer`, with options of its own, of a UTF-8 file that takes the place of `path` as by `replacing`."""
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        yield csv.writer(_UnixLines(file), **options)


class _UnixLines:
    """Ends rows with "\\n", where `csv.writer` quotes a carriage return in a field only if its row ends have one."""

    def __init__(self, file: TextIO) -> None:
        self._file = file

    def write(self, row: str) -> None:
        self._file.write(row.removesuffix("\r\n") + "\n")


def temporary_name(path: Path) -> Path:
    """A new name beside `path` that says what it is to become, of at most 82 bytes however long the name of `path` is.

    The suffix stays at the end: writers such as NumPy's and Matplotlib's go by it.
    """
    stem, suffix = path.stem, path.suffix
    if len(os.fsencode(suffix)) > _SUFFIX_BYTES:
        stem, suffix = path.name, ""
    # On a shared file system another machine's process may have this one's number.
    return path.with_name(f".{_shortened(stem, _STEM_BYTES)}.{secrets.token_hex(8)}.partial{suffix}")


def beside(path: Path, form: str) -> Path:
    """A name beside `path` that is made of its own, always the same, and no longer than file systems allow.

    Args:
      path: what it belongs to.
      form: the name, with `{}` in place of that of `path`; where all of it has more than 255 bytes, a part and a hash.
    """
    name = form.format(path.name)
    if len(os.fsencode(name)) > _NAME_BYTES:
        sha256 = hashlib.sha256(os.fsencode(path.name)).hexdigest()
        name = form.format(f"{_shortened(path.name, _STEM_BYTES)}.{sha256}")
    return path.with_name(name)


def _shortened(name: str, length_bytes: int) -> str:
    """The first characters of a file's name that together have no more bytes than this."""
    # What is left of a character that was cut through is no UTF-8, which some file systems refuse.
    return name.encode("utf-8", "surrogateescape")[:length_bytes].decode("utf-8", "ignore")


def remove_leftovers(folder: Path, names: str = "*") -> None:
    """Removes what writers that were killed left in a folder under temporary names, `replacing`'s and Orbax's.

    Args:
      folder: where it lies, if there is such a folder.
      names: a pattern of the files that were to be written, which have short names; no one else may be writing one of
        them.
    """
    for pattern in (f".{names}.partial*", f"{names}.orbax-checkpoint-tmp*"):
        for path in folder.glob(pattern):
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()


def write_json(path: Path, value: Any) -> None:
    """Writes `value` as indented JSON, atomically; infinite and undefined numbers are refused."""
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    with replacing(path) as temporary:
        # A name of a file may have bytes that are not UTF-8; this escapes them as JSON does, which gives them back.
        temporary.write_text(text, "utf-8", "backslashreplace")
