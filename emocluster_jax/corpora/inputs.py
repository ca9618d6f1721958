"""Inputs beside the audio, by name: a vector for each recording, in a NumPy file that a table names."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from emocluster_jax.config import check_input_names
from emocluster_jax.corpora.table import Row, Table, is_missing
from emocluster_jax.ranges import Range

InputSizes = tuple[tuple[str, int], ...]
"""Further inputs and the length of their vectors: (name, length), sorted by name. Hashable, unlike a dictionary."""

LENGTH = Range(int, 1, 16_384)
"""Of a vector. Longer ones would rival the chunks, which alone are counted where memory is planned."""

_PREFIX = "input:"


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
