"""Inputs beside the audio, by name: for each recording a vector or frames, in a NumPy file that a table names."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from emocluster_jax.config import FRAME_RATE, MOST_CHUNK_VALUES, Features, check_input_names
from emocluster_jax.corpora.table import Row, Table, is_missing
from emocluster_jax.errors import InputError
from emocluster_jax.ranges import Range

NUMBERS = Range(int, 1, 16_384)
"""Of a vector, or of a frame."""

_PREFIX = "input:"


@dataclass(frozen=True)
class FurtherInput:
    """An input beside the audio: a vector of so many numbers or, where they have a rate, frames of them.

    Frames run along the recording's file from its beginning, as its sound does.
    """

    name: str
    numbers: int
    frames_per_second: float | None = None

    def shape(self, features: Features) -> tuple[int, ...]:
        """That of a recording's array: (numbers,) or, in as many chunks as the sound, (chunks, frames, numbers).

        A chunk has as many frames as last as long as that of the sound. InputError if there are too many numbers.
        """
        if self.frames_per_second is None:
            return (self.numbers,)
        frames = max(1, round(features.chunk_frames / features.frames_per_second * self.frames_per_second))
        shape = features.chunks_per_utterance, frames, self.numbers
        if math.prod(shape) > MOST_CHUNK_VALUES:
            raise InputError(
                f"the chunks of the input {self.name} have {math.prod(shape)} values; expected {MOST_CHUNK_VALUES} at "
                "most"
            )
        return shape

    def __str__(self) -> str:
        if self.frames_per_second is None:
            return f"{self.name} (a vector of {self.numbers} numbers)"
        return f"{self.name} (frames of {self.numbers} numbers, {self.frames_per_second:g} per second)"


FurtherInputs = tuple[FurtherInput, ...]
"""Sorted by name. Hashable, unlike a dictionary."""


def names_of(inputs: Iterable[FurtherInput]) -> list[str]:
    return [given.name for given in inputs]


def inputs_as_json(inputs: FurtherInputs) -> dict[str, Any]:
    """By name, the length of a vector, or what frames are."""
    return {
        given.name: given.numbers
        if given.frames_per_second is None
        else {"numbers": given.numbers, "frames_per_second": given.frames_per_second}
        for given in inputs
    }


def inputs_from_json(values: Any, where: str) -> FurtherInputs:
    """What `inputs_as_json` made; InputError, with `where` in front, for anything else."""
    if not isinstance(values, dict):
        raise InputError(f"{where} is no object of inputs by name")
    check_input_names(values, where)
    return tuple(_input_from_json(name, values[name], f"{where}: {name}") for name in sorted(values))


def _input_from_json(name: str, value: Any, where: str) -> FurtherInput:
    if not isinstance(value, dict):
        return FurtherInput(name, NUMBERS.check(where, value))
    if value.keys() != {"numbers", "frames_per_second"}:
        raise InputError(f"{where} has the entries {', '.join(value)}; expected numbers and frames_per_second")
    rate = FRAME_RATE.check(f"{where}: frames_per_second", value["frames_per_second"])
    return FurtherInput(name, NUMBERS.check(f"{where}: numbers", value["numbers"]), rate)


def input_columns(table: Table) -> dict[str, str]:
    """The columns `input:NAME` of a table, by the input's name in lower case; InputError for one that names none."""
    columns = [column for column in table.columns if column.casefold().startswith(_PREFIX)]
    names = [column[len(_PREFIX) :].strip().casefold() for column in columns]
    check_input_names(names, str(table.path))
    return dict(zip(names, columns, strict=True))


def input_files(row: Row, columns: Mapping[str, str]) -> dict[str, Path]:
    """The file of each input that a row has, by name, for the columns of `input_columns`.

    Paths are relative to the table's folder, or absolute.
    """
    fields = {name: row.text(column) for name, column in columns.items()}
    return {name: row.table.path.parent / field for name, field in fields.items() if not is_missing(field)}
