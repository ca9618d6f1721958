"""Tables of labels: CSV files read with errors that name the file, the line and the column.

Comma, semicolon and tab are told apart by the header line, and a first line such as `sep=;` is obeyed. Column names are
compared without regard to case and surrounding blanks. What spreadsheets leave behind is understood: rows that end
early, empty columns at the end, and every usual spelling of a missing value.
"""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from emocluster_jax.config import LABEL
from emocluster_jax.corpora.text_files import read_text
from emocluster_jax.errors import InputError

_DELIMITERS = (",", ";", "\t")
_SEPARATOR_LINE = re.compile(r'"?sep=(?P<delimiter>[^\w\s"]|\t|\\t)(?P=delimiter)*"?(?:\r\n?|\n|$)', re.IGNORECASE)
_MISSING = frozenset(
    {"", "-", "\u2013", "\u2014", ".", "?", "na", "n/a", "n.a.", "n.a", "#n/a", "#na", "<na>", "nan", "none", "null"}
)


def is_missing(field: str) -> bool:
    """Whether a field says that there is no value: it is empty, "NA", "#N/A", "-" or the like, in any case."""
    return field.strip().casefold() in _MISSING


@dataclass(frozen=True)
class Row:
    """One row of a table.

    Attributes:
      table: the table that the row belongs to.
      place: where it stands in the file, for messages, such as "line 7" (the header of a CSV file is line 1).
      values: the row's fields, without surrounding blanks, in the order of the file's columns.
      ends_early: the row has fewer fields than the header; the last values are empty.
    """

    table: Table
    place: str
    values: Sequence[str]
    ends_early: bool = False

    @property
    def where(self) -> str:
        """File and place, for messages."""
        return f"{self.table.path}, {self.place}"

    def text(self, column: str) -> str:
        """The field of `column`; empty where the table has no such column."""
        index = self.table.index.get(column.casefold())
        return "" if index is None else self.values[index]

    def number(self, column: str) -> float:
        """The field of `column` as a finite number, or NaN where it is missing.

        Raises:
          InputError: the field is something else.
        """
        field = self.text(column)
        if is_missing(field):
            return math.nan
        try:
            # Where semicolons separate the fields, commas are decimal commas. Python would read "4_5" as 45.
            decimal = field.replace(",", ".") if self.table.delimiter == ";" else field
            number = math.nan if "_" in decimal else float(decimal)
        except ValueError:
            number = math.nan
        if not math.isfinite(number):
            raise InputError(f"{self.where}: {column} is {field!r}; expected a number, or nothing where it is missing")
        return number

    def label(self, column: str) -> float:
        """The field of `column` as an attribute's value, or NaN where it is missing.

        Raises:
          InputError: the field is something else, or out of `config.LABEL`.
        """
        number = self.number(column)
        return number if math.isnan(number) else LABEL.check(f"{self.where}: {column}", number)


@dataclass(frozen=True)
class Table:
    """A file's columns and rows.

    Attributes:
      path: where the file lies.
      delimiter: what separates the fields of a CSV file; empty for other files.
      columns: the names of the columns, as spelt in the file; those without a name are left out.
      index: position of each column, by its name in lower case.
      rows: the rows below the header, blank ones left out.
    """

    path: Path
    delimiter: str
    columns: tuple[str, ...]
    index: dict[str, int]
    rows: list[Row]

    def has(self, column: str) -> bool:
        """Whether the table has this column."""
        return column.casefold() in self.index

    def require(self, *columns: str) -> None:
        """Checks that the table has these columns.

        Raises:
          InputError: one is missing.
        """
        for column in columns:
            if not self.has(column):
                raise InputError(f"{self.path} has no column {column!r}; it has {', '.join(self.columns)}")

    def __iter__(self) -> Iterator[Row]:
        return iter(self.rows)


def read_table(path: Path) -> Table:
    """Reads a CSV file with a header line.

    Columns at the end that have neither a name nor a value are ignored. A row with fewer fields than the header has
    empty ones at its end.

    Args:
      path: the file.

    Returns:
      The table, with at least one row.

    Raises:
      InputError: the file is missing, not text, empty, has two columns of one name, or a row with more values than the
        header has names.
    """
    text = read_text(path)
    first_line, delimiter = 1, None
    if separator := _SEPARATOR_LINE.match(text):
        first_line, text = 2, text[separator.end() :]
        delimiter = separator["delimiter"].replace("\\t", "\t")
    delimiter = delimiter or _delimiter(text)
    lines = _lines(path, text, delimiter, first_line)
    _, header = next(lines, (first_line, []))
    if not header:
        raise InputError(f"{path} is empty; expected a CSV file with a header line")
    names = _without_empty_end(header)
    table = Table(path, delimiter, tuple(filter(None, names)), {}, [])
    for position, name in enumerate(names):
        if name.casefold() in table.index:
            raise InputError(f"{path} has the column {name!r} twice; rename or remove one")
        if name:
            table.index[name.casefold()] = position
    for line, fields in lines:
        values = _without_empty_end(fields)
        if len(values) > len(names):
            raise InputError(
                f"{path}, line {line}: {len(values)} fields where the header has {len(names)}; "
                'put values that contain the delimiter in "quotes"'
            )
        values += [""] * (len(names) - len(values))
        table.rows.append(Row(table, f"line {line}", values, ends_early=len(fields) < len(names)))
    if not table.rows:
        raise InputError(f"{path} has a header but no rows; add one row a recording")
    return table


def _lines(path: Path, text: str, delimiter: str, first_line: int) -> Iterator[tuple[int, list[str]]]:
    """Number and fields of every line that is not blank."""
    # Without translation of line ends, which may be part of a quoted field: of a file's name, say.
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)

    def line() -> int:
        return first_line - 1 + reader.line_num

    try:
        for record in reader:
            fields = [field.strip() for field in record]
            if any(fields):
                yield line(), fields
    except csv.Error as error:
        raise InputError(f"{path}, line {line()}: not readable as CSV ({error}); mend that line") from None


def _without_empty_end(fields: list[str]) -> list[str]:
    """The fields up to the last that is not empty."""
    return fields[: max((i for i, field in enumerate(fields, start=1) if field), default=0)]


def _delimiter(text: str) -> str:
    """The delimiter that occurs most often in the header line, outside quotes."""
    header = next((line for line in io.StringIO(text, newline="") if line.strip()), "")
    outside_quotes = "".join(header.split('"')[::2])
    return max(_DELIMITERS, key=outside_quotes.count)
