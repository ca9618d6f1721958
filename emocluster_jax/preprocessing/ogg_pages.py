"""The pages of an Ogg file (RFC 3533): streams that follow each other, and whether the last one ends.

libsndfile decodes the first of chained streams alone, and ends at the last whole page in silence.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

from emocluster_jax.preprocessing.streams import Contents, Stream, read_at, size_of

_FIRST = 0x02
_LAST = 0x04
_HEADER_BYTES = 27
_SEARCHED_BYTES = 1 << 16
"""How much is read at a time in search of a page: as much as the largest one."""


class _Page(NamedTuple):
    """A page's place and header.

    Attributes:
      start: where it begins.
      end: where it ends, which may be behind the end of the file.
      flags: whether it is a stream's first, or last.
      granule: how long the stream is at its end, in samples.
    """

    start: int
    end: int
    flags: int
    granule: int


def ogg_contents(file: BinaryIO) -> Contents:
    """The streams of an Ogg file, one for each link of a chain."""
    size = size_of(file)
    starts: list[int] = []
    granule, flags, missing = 0, 0, 0.0
    for page in _pages(file, size):
        if page.end > size:
            # Of its last page it is known how much is missing; of another, what follows is not.
            missing = (page.granule - granule) / page.granule if page.flags & _LAST and page.granule > granule else 1.0
            break
        # A chain's links begin with their streams' first pages, of which there may be several.
        if page.flags & _FIRST and (not starts or not flags & _FIRST):
            starts.append(page.start)
            granule = 0
        flags = page.flags
        granule = max(page.granule, granule)
    if not starts:
        return Contents(missing=1.0)
    whole = len(starts) == 1 and starts[0] == 0
    ranges = [range(start, end) for start, end in zip(starts, [*starts[1:], size], strict=True)]
    return Contents(
        [Stream()] if whole else [Stream([part]) for part in ranges],
        missing,
        is_unfinished=not missing and not flags & _LAST,
    )


def _pages(file: BinaryIO, size: int) -> Iterator[_Page]:
    """All pages, up to one that is not all there; what lies between pages is passed over."""
    position = 0
    while position < size:
        header = read_at(file, position, _HEADER_BYTES + 255)
        if header[:4] != b"OggS":
            position = _next_page(file, position + 1, size)
            continue
        if len(header) < _HEADER_BYTES or len(header) < _HEADER_BYTES + header[26]:
            yield _Page(position, size + 1, 0, 0)
            return
        flags, granule = struct.unpack_from("<Bq", header, 5)
        body = position + _HEADER_BYTES + header[26]
        page = _Page(position, body + sum(header[_HEADER_BYTES : _HEADER_BYTES + header[26]]), flags, granule)
        yield page
        position = page.end


def _next_page(file: BinaryIO, position: int, size: int) -> int:
    """Where the next page begins; the file's end if none does."""
    while position < size:
        found = read_at(file, position, _SEARCHED_BYTES).find(b"OggS")
        if found >= 0:
            return position + found
        position += _SEARCHED_BYTES - 3
    return size
