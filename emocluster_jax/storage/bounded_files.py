"""Reads files that may be damaged or untrusted, after checking their type and size."""

from __future__ import annotations

import stat
from pathlib import Path

from emocluster_jax.errors import InputError


def read_bytes(path: Path, remedy: str, most_bytes: int) -> bytes:
    """A file's content.

    Raises:
      FileNotFoundError: there is no such file.
      InputError: it is not a plain file, larger than `most_bytes`, or cannot be read; the message ends with `remedy`.
    """
    try:
        found = path.stat()
        # Opening a pipe would wait for its writer.
        if not stat.S_ISREG(found.st_mode):
            reason = "not a plain file"
        elif found.st_size > most_bytes:
            reason = f"{found.st_size} bytes, expected {most_bytes} at most"
        else:
            return path.read_bytes()
    except FileNotFoundError:
        if not path.is_symlink():
            raise
        reason = "a link to a missing file"
    except OSError as error:
        reason = error.strerror or str(error)
    except ValueError as error:  # a name that no file can have
        reason = str(error)
    raise InputError(f"{path} cannot be read ({reason}); {remedy}")


def read_text(path: Path, remedy: str, most_bytes: int) -> str:
    """The text of a UTF-8 file, with its line ends unchanged; errors as in `read_bytes`, also if it is not UTF-8."""
    content = read_bytes(path, remedy, most_bytes)
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{path} cannot be read (not UTF-8 at byte {error.start}); {remedy}") from None
