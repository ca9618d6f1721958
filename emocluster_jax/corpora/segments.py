"""Parts of files as recordings of their own, in tables and in ids.

A segment has a start and an end in seconds from the file's beginning; an end of None is the file's end, and a whole
file has neither. Tables have columns `start` and `end`, like audformat's segmented index and the tables of
`launch.predict`.
"""

from __future__ import annotations

import math
import re
from pathlib import Path

from emocluster_jax.corpora.audio_files import is_file, is_inside
from emocluster_jax.corpora.table import Row
from emocluster_jax.errors import InputError

_LATEST_S = 1e9
"""Longer than any recording; floats beyond it do not hold microseconds."""
_TIMEDELTA = re.compile(
    r"(?:(?P<days>[+-]?\d{1,6}) days?)?[ ,]*"
    r"(?:(?P<sign>[+-])?(?P<hours>\d{1,6}):(?P<minutes>[0-5]\d):(?P<seconds>[0-5]\d(?:\.\d+)?))?"
)
_SUFFIX = re.compile(r"#(\d+(?:\.\d{1,6})?)-(\d+(?:\.\d{1,6})?)?\Z")


def read_segment(row: Row) -> tuple[float | None, float | None]:
    """Start and end in seconds, rounded to microseconds, by the columns `start` and `end` of a table's row.

    They hold seconds, or timedeltas as pandas writes them ("0 days 00:00:01.500000"). An empty start is 0; an empty end
    (or NaT) is the file's, None. A whole file has None and None. What is not a time, or an end that is not after the
    start, is an InputError.
    """
    start_s, end_s = _time_s(row, "start") or 0.0, _time_s(row, "end")
    if end_s is not None and end_s <= start_s:
        raise InputError(
            f"{row.where}: end is {row.text('end')!r}, which is not after start, {row.text('start') or '0'!r}; "
            "give the segment's end, or nothing for the file's"
        )
    return (None, None) if start_s == 0 and end_s is None else (start_s, end_s)


def _time_s(row: Row, column: str) -> float | None:
    """None where the field is empty."""
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
    """What follows the file in a segment's id: start and end in seconds, e.g. `#1.5-4` or `#1.5-`; "" for a file."""
    if start_s is None and end_s is None:
        return ""
    # To microseconds, without trailing zeros.
    times = ["" if time_s is None else f"{time_s:.6f}".rstrip("0").rstrip(".") for time_s in (start_s or 0.0, end_s)]
    return "#" + "-".join(times)


def split_id(id: str) -> tuple[str, float | None, float | None]:
    """The file, start and end in seconds of a recording's id: the reverse of `segment_suffix`.

    A whole file with a name such as `take#1-2` is taken for a segment: if the files are at hand, look for the id first.
    """
    match = _SUFFIX.search(id)
    if not match or not match.start():
        return id, None, None
    start_s, end_s = float(match[1]), None if match[2] is None else float(match[2])
    if segment_suffix(start_s, end_s) != match[0]:
        return id, None, None
    return id[: match.start()], start_s, end_s


def find_recording(source: Path, id: str) -> tuple[Path, float | None, float | None] | None:
    """The file of a recording, which need not exist, and a segment's start and end in seconds, by its id.

    None if the id leads out of `source`, the folder that ids are relative to.
    """
    file, start_s, end_s = (id, None, None) if is_inside(id) and is_file(source / id) else split_id(id)
    return (source / file, start_s, end_s) if is_inside(file) else None
