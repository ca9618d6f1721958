"""Tables of labels: CSV files read with errors that name the file, the line and the column.

Comma, semicolon and tab are told apart by the header line; UTF-8 with and without byte order mark is read, and UTF-16
with one. Column names are compared without regard to case and surrounding blanks.
"""

from __future__ import annotations

import codecs
import csv
import io
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from emocluster_jax.errors import InputError

_DELIMITERS = (",", ";", "\t")
_MISSING = frozenset({"", "nan", "na", "n/a", "none", "null"})
_BYTE_ORDER_MARKS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))


@dataclass(frozen=True)
class Row:
    """One line of a table.

    Attributes:
      table: the table that the line belongs to.
      line: the line's number in the file, counted from 1 (the header is line 1).
      values: the line's fields, without surrounding blanks, in the order of `table.columns`.
    """

    table: Table
    line: int
    values: Sequence[str]

    @property
    def where(self) -> str:
        """File and line, for messages."""
        return f"{self.table.path}, line {self.line}"

    def text(self, column: str) -> str:
        """The field of `column`; empty where the table has no such column."""
        index = self.table.index.get(column.casefold())
        return "" if index is None else self.values[index]

    def number(self, column: str) -> float:
        """The field of `column` as a finite number, or NaN where it is empty, "NaN" or the like.

        Raises:
          InputError: the field is something else.
        """
        field = self.text(column)
        if field.casefold() in _MISSING:
            return math.nan
        try:
            # Where semicolons separate the fields, commas are decimal commas.
            number = float(field.replace(",", ".") if self.table.delimiter == ";" else field)
        except ValueError:
            number = math.nan
        if not math.isfinite(number):
            raise InputError(f"{self.where}: {column} is {field!r}; expected a number, or nothing where it is missing")
        return number


@dataclass(frozen=True)
class Table:
    """A CSV file's header and lines.

    Attributes:
      path: where the file lies.
      delimiter: what separates its fields.
      columns: the names in the header, as spelt there.
      index: position of each column, by its name in lower case.
      rows: the lines below the header, blank ones left out.
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

    Args:
      path: the file.

    Returns:
      The table, with at least one row.

    Raises:
      InputError: the file is missing, not text, empty, has two columns of one name, or a line with another number of
        fields than the header.
    """
    text = _decoded(path)
    if not text.strip():
        raise InputError(f"{path} is empty; expected a CSV file with a header line")
    delimiter = _delimiter(text)
    table = Table(path, delimiter, _header(path, text, delimiter), {}, [])
    for position, column in enumerate(table.columns):
        if column.casefold() in table.index:
            raise InputError(f"{path} has the column {column!r} twice; rename or remove one")
        table.index[column.casefold()] = position
    reader = csv.reader(io.StringIO(text), delimiter=delimiter, strict=True)
    try:
        for fields in reader:
            if not any(field.strip() for field in fields):
                continue
            if len(fields) != len(table.columns):
                raise InputError(
                    f"{path}, line {reader.line_num}: {len(fields)} fields where the header has {len(table.columns)}; "
                    'put values that contain the delimiter in "quotes"'
                )
            table.rows.append(Row(table, reader.line_num, [field.strip() for field in fields]))
    except csv.Error as error:
        raise InputError(f"{path}, line {reader.line_num}: not readable as CSV ({error}); mend that line") from None
    del table.rows[:1]  # the header
    if not table.rows:
        raise InputError(f"{path} has a header but no rows; add one row a recording")
    return table


def _decoded(path: Path) -> str:
    """The file's text."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise InputError(f"{path} does not exist; give the path of a CSV file") from None
    except IsADirectoryError:
        raise InputError(f"{path} is a folder; give the path of a CSV file") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}; check its permissions") from None
    encoding = next((name for mark, name in _BYTE_ORDER_MARKS if content.startswith(mark)), "utf-8")
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not {encoding} text (byte {error.start}); save it as CSV in UTF-8") from None
    if "\0" in text:
        # UTF-16 without a byte order mark looks like this, and no file name may hold one.
        raise InputError(f"{path} is not {encoding} text (it holds null characters); save it as CSV in UTF-8")
    return text


def _delimiter(text: str) -> str:
    """The delimiter that occurs most often in the header line, outside quotes."""
    header = next(line for line in text.splitlines() if line.strip())
    outside_quotes = "".join(header.split('"')[::2])
    return max(_DELIMITERS, key=outside_quotes.count)


def _header(path: Path, text: str, delimiter: str) -> tuple[str, ...]:
    """The names in the first line that is not blank."""
    reader = csv.reader(io.StringIO(text), delimiter=delimiter, strict=True)
    try:
        names = next(fields for fields in reader if any(field.strip() for field in fields))
    except (csv.Error, StopIteration):
        raise InputError(f"{path}: the header line is not readable as CSV; mend it") from None
    return tuple(name.strip() for name in names)
