"""The finite ranges of numbers that people give.

Each number of a settings dataclass, of a command's options or of a public function has a `Range`. NaN, infinity, and
integers that arrays cannot hold are in none. The module imports nothing but the standard library.
"""

from __future__ import annotations

import numbers
import reprlib
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar

from emocluster_jax.errors import InputError

Number = TypeVar("Number", int, float)

_LARGEST_SHOWN = 10**30


@dataclass(frozen=True)
class Range(Generic[Number]):
    """The values that a number may have."""

    kind: type[Number]  # int, or float, which allows integers too
    lowest: Number
    highest: Number  # finite
    excludes: Literal["lowest", "highest"] | None = None  # which of the two is itself excluded
    wanted: str = ""  # what is expected, for messages; empty if the bounds say it

    def __str__(self) -> str:
        if self.wanted:
            return self.wanted
        if self.excludes == "lowest":
            return f"more than {self.lowest}, and {self.highest} at most"
        if self.excludes == "highest":
            return f"from {self.lowest} up to, but not including, {self.highest}"
        return f"{self.lowest} to {self.highest}"

    def check(self, name: str, value: Any) -> Number:
        """The number as Python's; raises InputError, with this name, if it is out of range or of another kind."""
        number = _plain(value, numbers.Integral if self.kind is int else numbers.Real)
        excluded = self.excludes and getattr(self, self.excludes)
        # Integers of any size compare exactly with floats, and NaN is in no range.
        if number is None or not self.lowest <= number <= self.highest or number == excluded:
            whole = ", a whole number" if number is None and self.kind is int and not self.wanted else ""
            raise InputError(f"{name} is {shown(value)}; expected {self}{whole}")
        return number


def _plain(value: Any, kind: type[numbers.Real]) -> Any:
    """A number of this kind as Python's own int or float, or None for all else; booleans are not numbers.

    An integer stays one where a float may be: data that were prepared with 50 frames per second are known by that.
    """
    if isinstance(value, bool) or not isinstance(value, kind):
        return None
    try:
        return int(value) if isinstance(value, numbers.Integral) else float(value)
    except OverflowError:  # of a fraction
        return None


def shown(value: Any) -> str:
    """A value for a message of one line."""
    if isinstance(value, int) and abs(value) >= _LARGEST_SHOWN:
        return "a number of more than 30 digits"
    return str(value) if isinstance(value, numbers.Real) else reprlib.repr(value)


def within(limits: Range[Any]) -> dict[str, Any]:
    """Metadata of a dataclass's field that says which numbers it may have."""
    return {"range": limits}


def alternatives(hint: Any) -> tuple[Any, ...]:
    """The types of a union, or the one type."""
    return typing.get_args(hint) if typing.get_origin(hint) in (types.UnionType, typing.Union) else (hint,)


def number_kind(hint: Any) -> type[int] | type[float] | None:
    """What numbers a value of an annotated type is, may be, or is a tuple or mapping of; None for one without any."""
    for alternative in alternatives(hint):
        # The elements of a tuple, and the values of a mapping.
        place = {tuple: 0, Mapping: 1}.get(typing.get_origin(alternative))
        kind = alternative if place is None else typing.get_args(alternative)[place]
        if kind in (int, float):
            return kind
    return None
