"""Reads files that may be damaged, or a stranger's: what they are, and how large, is looked at before."""

from __future__ import annotations

import stat
from pathlib import Path

from emocluster_jax.errors import InputError


def read_bytes(path: Path, remedy: str, most_bytes: int) -> bytes:
    """A file's content.

    Args:
      path: the file.
      remedy: what to do where it cannot be read, for the message.
      most_bytes: more is not read.

    Raises:
      FileNotFoundError: there is no such file.
      InputError: it is no plain file, or too large, or it cannot be read.
    """
    try:
        found = path.stat()
        # Whoever opens a pipe waits for its writer.
        if not stat.S_ISREG(found.st_mode):
            reason = "not a plain file"
        elif found.st_size > most_bytes:
            reason = f"{found.st_size} bytes, expected {most_bytes} at most"
        else:
            return path.read_bytes()
    except FileNotFoundError:
        if not path.is_symlink():
            raise
        reason = "a link to a file that is not there"
    except OSError as error:
        reason = error.strerror or str(error)
    except ValueError as error:  # a name that no file can have
        reason = str(error)
    raise InputError(f"{path} cannot be read ({reason}); {remedy}")


def read_text(path: Path, remedy: str, most_bytes: int) -> str:
    """The content of a file in UTF-8, its line ends as they are.

    Raises:
      FileNotFoundError: there is no such file.
      InputError: it is not UTF-8, or as `read_bytes`.
    """
    content = read_bytes(path, remedy, most_bytes)
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{path} cannot be read (not UTF-8 at byte {error.start}); {remedy}") from None
