"""Inputs beside the audio, by name: a vector for each recording, in a NumPy file that a table names."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from emocluster_jax.corpora.table import Row, Table, is_missing
from emocluster_jax.errors import InputError
from emocluster_jax.ranges import Range

InputSizes = tuple[tuple[str, int], ...]
"""Further inputs and the length of their vectors: (name, length), sorted by name. Hashable, unlike a dictionary."""

LENGTH = Range(int, 1, 16_384)
"""Of a vector. Longer ones would rival the chunks, which alone are counted where memory is planned."""

_PREFIX = "input:"
_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")


def check_input_names(names: Iterable[str], where: str) -> None:
    """Raises InputError, with `where` in front, for a name that a further input cannot have."""
    for name in names:
        if not _NAME.fullmatch(name) or name == "audio" or name.endswith("_present"):
            raise InputError(
                f"{where}: {name!r} cannot be the name of an input; use small letters, digits and underscores, at most "
                "64, the first a letter, and neither audio nor an ending _present"
            )


def input_columns(table: Table) -> dict[str, str]:
    """The columns `input:NAME` of a table, by the input's name in lower case; InputError for one that names none."""
    columns = [column for column in table.columns if column.casefold().startswith(_PREFIX)]
    found = {column[len(_PREFIX) :].strip().casefold(): column for column in columns}
    check_input_names(found, str(table.path))
    return found


def input_files(row: Row, columns: Mapping[str, str]) -> dict[str, Path]:
    """The file of each input that a row has, by name, for the columns of `input_columns`.

    Paths are relative to the table's folder, or absolute.
    """
    fields = {name: row.text(column) for name, column in columns.items()}
    return {name: row.table.path.parent / field for name, field in fields.items() if not is_missing(field)}
