"""Reads JSON files that may be damaged, or a stranger's."""

from __future__ import annotations

import json
import math
import stat
from pathlib import Path
from typing import Any, NoReturn

from emocluster_jax.errors import InputError

MOST_BYTES = 16 << 20
"""Of a file that describes one thing: a thousand times what they usually take."""


def read_json(path: Path, remedy: str, most_bytes: int = MOST_BYTES) -> Any:
    """What a JSON file holds, whose values are finite; their types and names are still to be checked.

    Args:
      path: the file.
      remedy: what to do where it cannot be read, for the message.
      most_bytes: more is not read.

    Raises:
      FileNotFoundError: there is no such file.
      InputError: it is no plain file, too large, or no JSON, or it cannot be read.
    """
    try:
        return json.loads(
            _read_bytes(path, most_bytes).decode("utf-8"), parse_float=_finite, parse_constant=_refuse_constant
        )
    except FileNotFoundError:
        raise
    except OSError as error:
        reason = error.strerror or str(error)
    except RecursionError:
        reason = "nested too deeply"
    except ValueError as error:  # also of text that is not UTF-8
        reason = str(error)
    raise InputError(f"{path} cannot be read ({reason}); {remedy}")


def _read_bytes(path: Path, most: int) -> bytes:
    """The file's content; whoever opens a pipe waits for its writer, so it is looked at before."""
    found = path.stat()
    if not stat.S_ISREG(found.st_mode):
        raise ValueError("not a plain file")
    if found.st_size > most:
        raise ValueError(f"{found.st_size} bytes, expected {most} at most")
    return path.read_bytes()


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"the number {text} is too large")
    return value


def _refuse_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is not a number of JSON")
