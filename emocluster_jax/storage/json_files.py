"""Reads JSON files that may be damaged, or a stranger's."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from emocluster_jax.errors import InputError
from emocluster_jax.settings import from_dict
from emocluster_jax.storage.bounded_files import read_text

MOST_BYTES = 16 << 20
"""Of a file that describes one thing: a thousand times what they usually take."""
_LARGEST_INTEGER = (1 << 64) - 1
_LONGEST_REASON = 300
"""Characters: what is wrong may repeat what the file says."""

Record = TypeVar("Record")


def read_json(path: Path, remedy: str, most_bytes: int = MOST_BYTES) -> Any:
    """What a JSON file holds, whose numbers are finite; types and names are still to be checked.

    Args:
      path: the file.
      remedy: what to do where it cannot be read, for the message.
      most_bytes: more is not read.

    Raises:
      FileNotFoundError: there is no such file.
      InputError: it is no plain file, too large, or no JSON, or it cannot be read.
    """
    try:
        return parse_json(read_text(path, remedy, most_bytes))
    except ValueError as error:
        raise InputError(f"{path} cannot be read ({error}); {remedy}") from None


def parse_json(text: str) -> Any:
    """The value of a JSON text, whose numbers are finite and whose whole numbers fit 64 bits.

    Raises:
      ValueError: it is no JSON, or nested too deeply, or has other numbers; says so in a few words.
    """
    try:
        return json.loads(text, parse_int=_whole, parse_float=_finite, parse_constant=_refuse_constant)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def as_record(cls: type[Record], values: Any, where: str, remedy: str) -> Record:
    """A JSON value as a dataclass, each entry of the type that the dataclass says.

    Args:
      cls: a dataclass of numbers, text, None, tuples of them, and dataclasses of the same kind.
      values: what the file has in that place; entries that are left out get their defaults, if they have some.
      where: the file and the place, for the message.
      remedy: what to do about it, for the message.

    Raises:
      InputError: entries are missing, unknown or of another type.
    """
    try:
        return from_dict(cls, values, where)
    except InputError as error:
        raise InputError(f"{shortened(str(error))}; {remedy}") from None


def shortened(reason: str) -> str:
    """What is wrong with a file, without the end where it goes on and on."""
    return reason if len(reason) <= _LONGEST_REASON else reason[: _LONGEST_REASON - 1] + "\N{HORIZONTAL ELLIPSIS}"


def _whole(text: str) -> int:
    # The digits are counted first: a number of very many takes the more time for each of them.
    if len(text) > 20 or abs(int(text)) > _LARGEST_INTEGER:
        raise ValueError(f"the number {text[:20]}... is too large")
    return int(text)


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"the number {text[:20]} is too large")
    return value


def _refuse_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is not a number of JSON")
