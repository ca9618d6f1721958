"""Parts of files as recordings of their own: how tables give them, and how ids spell them.

A segment is a beginning and an end in seconds from the file's beginning. The end is None where it is the file's; a
whole file has neither. Tables have the columns `start` and `end`, as audformat's segmented index and the tables of
`launch.predict` do.
"""

from __future__ import annotations

import math
import re
from pathlib import Path

from emocluster_jax.corpora.audio_files import is_file, is_inside
from emocluster_jax.corpora.table import Row
from emocluster_jax.errors import InputError

_LATEST_S = 1e9
"""Beyond it floats do not hold microseconds, and no recording ends."""
_TIMEDELTA = re.compile(
    r"(?:(?P<days>[+-]?\d{1,6}) days?)?[ ,]*"
    r"(?:(?P<sign>[+-])?(?P<hours>\d{1,6}):(?P<minutes>[0-5]\d):(?P<seconds>[0-5]\d(?:\.\d+)?))?"
)
_SUFFIX = re.compile(r"#(\d+(?:\.\d{1,6})?)-(\d+(?:\.\d{1,6})?)?\Z")


def read_segment(row: Row) -> tuple[float | None, float | None]:
    """The part of its file that a table's line is about, by its columns `start` and `end`, to microseconds.

    They hold seconds, or timedeltas as pandas writes them ("0 days 00:00:01.500000"). Without a start it begins at 0;
    without an end (also NaT) it goes to the file's.

    Returns:
      Beginning and end in seconds; None and None for a whole file, None for the end where it is the file's.

    Raises:
      InputError: a field is not a time, or the end is not after the start.
    """
    start_s, end_s = _time_s(row, "start") or 0.0, _time_s(row, "end")
    if end_s is not None and end_s <= start_s:
        raise InputError(
            f"{row.where}: end is {row.text('end')!r}, which is not after start, {row.text('start') or '0'!r}; "
            "give the segment's end, or nothing for the file's"
        )
    return (None, None) if start_s == 0 and end_s is None else (start_s, end_s)


def _time_s(row: Row, column: str) -> float | None:
    """Seconds, rounded to microseconds; None where the field is empty."""
    field = row.text(column)
    if field.casefold() == "nat":
        return None
    timedelta = _TIMEDELTA.fullmatch(field)
    try:
        seconds = _timedelta_s(timedelta) if field and timedelta else row.number(column)
    except InputError:
        seconds = -math.inf
    if math.isnan(seconds):
        return None
    if not 0 <= seconds <= _LATEST_S:
        raise InputError(
            f"{row.where}: {column} is {field!r}; expected seconds from the file's beginning, such as 1.5, "
            "or a timedelta, such as 0 days 00:00:01.500000"
        )
    return round(seconds, 6)


def _timedelta_s(match: re.Match[str]) -> float:
    clock = 3600 * int(match["hours"] or 0) + 60 * int(match["minutes"] or 0) + float(match["seconds"] or 0)
    return 86_400 * int(match["days"] or 0) + (-clock if match["sign"] == "-" else clock)


def segment_suffix(start_s: float | None, end_s: float | None) -> str:
    """What a segment's id has behind its file's, `#start-end` in seconds, e.g. `#1.5-4` or `#1.5-`.

    Nothing for a whole file.
    """
    if start_s is None and end_s is None:
        return ""
    return f"#{_seconds_text(start_s or 0.0)}-{'' if end_s is None else _seconds_text(end_s)}"


def split_id(id: str) -> tuple[str, float | None, float | None]:
    """A recording's id as the id of its file, and beginning and end in seconds: the reverse of `segment_suffix`.

    A whole file whose name ends as segments' ids do, such as `take#1-2`, is taken for a segment: where files can be
    looked for, look for the id first.
    """
    match = _SUFFIX.search(id)
    if not match or not match.start():
        return id, None, None
    start_s, end_s = float(match[1]), None if match[2] is None else float(match[2])
    if segment_suffix(start_s, end_s) != match[0]:
        return id, None, None
    return id[: match.start()], start_s, end_s


def find_recording(source: Path, id: str) -> tuple[Path, float | None, float | None] | None:
    """Where a recording lies by its id: its file, and of a segment beginning and end in seconds.

    Args:
      source: the folder that ids are relative to.
      id: the recording's.

    Returns:
      None where the id leads out of the folder. The file need not exist.
    """
    file, start_s, end_s = (id, None, None) if is_inside(id) and is_file(source / id) else split_id(id)
    return (source / file, start_s, end_s) if is_inside(file) else None


def _seconds_text(seconds: float) -> str:
    """To microseconds, without zeros at its end."""
    return f"{seconds:.6f}".rstrip("0").rstrip(".")
