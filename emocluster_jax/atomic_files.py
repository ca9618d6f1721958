"""Files that appear whole or not at all."""

from __future__ import annotations

import json
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary name beside `path` to write to; it takes the place of `path` when the block ends without an error.

    A reader, or a run resumed after a kill at any instant, finds the old file or the new one, never a part.
    """
    # The suffix stays at the end: writers such as NumPy's and Matplotlib's go by it. On a shared file system another
    # machine's process may have this one's number.
    temporary = path.with_name(f".{path.stem}.{secrets.token_hex(8)}.partial{path.suffix}")
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def remove_leftovers(folder: Path, names: str = "*") -> None:
    """Removes what writers that were killed left in a folder under temporary names, `replacing`'s and Orbax's.

    Args:
      folder: where it lies, if there is such a folder.
      names: a pattern of the files that were to be written; no one else may be writing one of them.
    """
    for pattern in (f".{names}.partial*", f"{names}.orbax-checkpoint-tmp*"):
        for path in folder.glob(pattern):
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()


def write_json(path: Path, value: Any) -> None:
    """Writes `value` as indented JSON, atomically; infinite and undefined numbers are refused."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n", "utf-8")
