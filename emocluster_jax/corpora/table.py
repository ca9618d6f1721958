"""Tables of labels, CSV or JSON, read with errors that name the file, the line and the column.

The header line tells whether comma, semicolon or tab separates fields, unless a first line such as `sep=;` does. Column
names are compared without case and surrounding blanks. Rows that end early, empty columns at the end, and every usual
spelling of a missing value are accepted, as spreadsheets write them.
"""

from __future__ import annotations

import codecs
import csv
import io
import json
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from emocluster_jax.config import LABEL
from emocluster_jax.errors import InputError

_BYTE_ORDER_MARKS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))
_DELIMITERS = (",", ";", "\t")
_SEPARATOR_LINE = re.compile(r'"?sep=(?P<delimiter>[^\w\s"]|\t|\\t)(?P=delimiter)*"?(?=[\r\n]|$)', re.IGNORECASE)
_MISSING = frozenset(
    {"", "-", "\u2013", "\u2014", ".", "?", "na", "n/a", "n.a.", "n.a", "#n/a", "#na", "<na>", "nan", "none", "null"}
)


def is_missing(field: str) -> bool:
    """Whether a field stands for no value: it is empty, "NA", "#N/A", "-" or the like, in any case."""
    return field.strip().casefold() in _MISSING


@dataclass(frozen=True)
class Row:
    """One row of a table."""

    table: Table
    place: str  # where it is in the file, for messages, such as "line 7" (the header of a CSV file is line 1)
    values: Sequence[str]  # without surrounding blanks, in the order of the file's columns
    ends_early: bool = False  # whether it has fewer fields than the header; the last values are then empty

    @property
    def where(self) -> str:
        """File and place, for messages."""
        return f"{self.table.path}, {self.place}"

    def text(self, column: str) -> str:
        """The field of `column`; empty where the table has no such column."""
        index = self.table.index.get(column.casefold())
        return "" if index is None else self.values[index]

    def number(self, column: str) -> float:
        """The field of `column` as a finite number, or NaN where it is missing; InputError for anything else."""
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
        """The same as `number`, and InputError for a number outside of `config.LABEL`."""
        number = self.number(column)
        return number if math.isnan(number) else LABEL.check(f"{self.where}: {column}", number)


@dataclass(frozen=True)
class Table:
    """A file's columns and rows."""

    path: Path
    delimiter: str  # of a CSV file's fields; empty for other files
    columns: tuple[str, ...]  # their names, as spelt in the file; those without a name are left out
    index: dict[str, int]  # position of each column, by its name in lower case
    rows: list[Row]  # below the header, without blank ones

    def has(self, column: str) -> bool:
        return column.casefold() in self.index

    def require(self, *columns: str) -> None:
        """Raises InputError if the table lacks one of these columns."""
        for column in columns:
            if not self.has(column):
                raise InputError(f"{self.path} has no column {column!r}; it has {', '.join(self.columns)}")

    def __iter__(self) -> Iterator[Row]:
        return iter(self.rows)


def read_table(path: Path) -> Table:
    """Reads a CSV file with a header line and at least one row.

    Columns at the end that have neither a name nor a value are ignored. Where a row has fewer fields than the header,
    the missing ones are empty.

    Raises:
      InputError: the file is missing, not text, empty, has two columns of one name, or a row with more values than the
        header has names.
    """
    text = read_text(path)
    separator = _SEPARATOR_LINE.match(text)
    if separator:
        text = text[separator.end() :]  # a blank line remains
    delimiter = separator["delimiter"].replace("\\t", "\t") if separator else _delimiter(text)
    lines = _lines(path, text, delimiter)
    _, header = next(lines, (1, []))
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
        raise InputError(f"{path} has a header but no rows; add one row per recording")
    return table


def _lines(path: Path, text: str, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Number and fields of every line that is not blank."""
    # Line ends are kept: they may be part of a quoted field, such as a file's name.
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        for record in reader:
            fields = [field.strip() for field in record]
            if any(fields):
                yield reader.line_num, fields
    except csv.Error as error:
        raise InputError(f"{path}, line {reader.line_num}: not readable as CSV ({error}); fix that line") from None


def _without_empty_end(fields: list[str]) -> list[str]:
    return fields[: max((i for i, field in enumerate(fields, start=1) if field), default=0)]


def _delimiter(text: str) -> str:
    """The delimiter that occurs most often in the header line, outside quotes."""
    header = next((line for line in io.StringIO(text, newline="") if line.strip()), "")
    outside_quotes = "".join(header.split('"')[::2])
    return max(_DELIMITERS, key=outside_quotes.count)


def read_json_table(path: Path, key: str) -> Table:
    """Reads a JSON file such as `{"a.wav": {"EmoAct": 4.2, "Split_Set": "Train"}, ...}`, which has at least one row.

    The column `key` gets the outer object's keys. A field is empty where an object has no such entry, or null.

    Raises:
      InputError: the file is missing, not JSON, empty, of another form, or an object has an entry twice.
    """
    try:
        # Objects as tuples of their entries: a dictionary would keep the last of two entries of one name.
        entries = json.loads(read_text(path), object_pairs_hook=tuple)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not readable as JSON ({error}); correct it or download it again") from None
    if not isinstance(entries, tuple) or not all(isinstance(entry, tuple) for _, entry in entries):
        raise InputError(f"{path}: expected a JSON object that has an object for each recording, by its file name")
    if not entries:
        raise InputError(f"{path} is empty; expected a JSON object that has an object for each recording")
    columns = {key.casefold(): key}
    for _, entry in entries:
        for name, _ in entry:
            columns.setdefault(name.casefold(), name)
    table = Table(path, "", tuple(columns.values()), {name: i for i, name in enumerate(columns)}, [])
    for number, (recording, entry) in enumerate(entries, start=1):
        place = f"entry {number} ({recording})"
        fields = {key.casefold(): recording.strip()}
        for name, value in entry:
            if name.casefold() in fields:
                raise InputError(f"{path}, {place} has {name!r} twice; remove one")
            fields[name.casefold()] = _json_field(value)
        table.rows.append(Row(table, place, [fields.get(name, "") for name in columns]))
    return table


def _json_field(value: Any) -> str:
    if isinstance(value, str):
        return value.strip()
    return "" if value is None else json.dumps(value)


def read_text(path: Path) -> str:
    """Reads UTF-8 with or without a byte order mark, or UTF-16 with one; InputError for what is missing or not text."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise InputError(f"{path} does not exist; check its name and folder") from None
    except IsADirectoryError:
        raise InputError(f"{path} is a folder; give the path of a file") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}; check its permissions") from None
    encoding = next((name for mark, name in _BYTE_ORDER_MARKS if content.startswith(mark)), "utf-8")
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not {encoding} text (byte {error.start}); save it in UTF-8") from None
    if "\0" in text:
        # UTF-16 without a byte order mark looks like this, and no file name may hold one.
        raise InputError(f"{path} is not {encoding} text (it holds null characters); save it in UTF-8")
    return text
