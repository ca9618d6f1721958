"""Ogg (RFC 3533) and FLAC files, which may hold several streams one after the other.

libsndfile decodes only the first of them, and ends an Ogg stream at its last whole page without an error.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import BinaryIO

from emocluster_jax.preprocessing.file_contents import Contents, Stream, find, read_at, size_of

FLAC_UNKNOWN = (1 << 36) - 1
"""FLAC's largest length; it, and 0, mean that the length was unknown when the header was written."""
_FLAC_START = re.compile(rb"fLaC[\x00\x80]\x00\x00\x22")
"""A FLAC stream's name and the beginning of its first block."""
_FIRST_PAGE, _LAST_PAGE = 0x02, 0x04
_PAGE_HEADER_BYTES = 27


def ogg_contents(file: BinaryIO) -> Contents:
    """The streams of an Ogg file, one for each link of its chain."""
    size = size_of(file)
    starts: list[int] = []
    samples, last_flags, missing = 0, 0, 0.0
    for start, end, flags, granule in _pages(file, size):
        if end > size:
            # A stream's last page tells how much is missing; after any other page an unknown amount may follow.
            is_known = flags & _LAST_PAGE and granule > samples
            missing = (granule - samples) / granule if is_known else 1.0
            break
        # Each link of a chain begins with the first pages of its streams, of which there may be several.
        if flags & _FIRST_PAGE and (not starts or not last_flags & _FIRST_PAGE):
            starts.append(start)
            samples = 0
        last_flags = flags
        samples = max(granule, samples)
    if not starts:
        return Contents(missing=1.0)
    streams = [Stream()] if starts == [0] else _streams_from(starts, size)
    return Contents(streams, missing, is_unfinished=not missing and not last_flags & _LAST_PAGE)


def flac_contents(file: BinaryIO) -> Contents:
    """The streams of a FLAC file."""
    size, starts, position = size_of(file), [], -1
    while (position := find(file, b"fLaC", position + 1, size)) < size:
        if _FLAC_START.match(read_at(file, position, 8)):
            starts.append(position)
    if not starts:
        return Contents()
    length = int.from_bytes(read_at(file, starts[0] + 18, 8), "big") & FLAC_UNKNOWN
    return Contents() if len(starts) == 1 and length not in (0, FLAC_UNKNOWN) else Contents(_streams_from(starts, size))


def _streams_from(starts: Sequence[int], size: int) -> list[Stream]:
    return [Stream([range(*ends)]) for ends in pairwise([*starts, size])]


def _pages(file: BinaryIO, size: int) -> Iterator[tuple[int, int, int, int]]:
    """Start, end, flags and granule (the stream's samples so far) of the pages, up to one that the file ends within.

    Whatever lies between pages is skipped.
    """
    position = 0
    while (position := find(file, b"OggS", position, size)) < size:
        header = read_at(file, position, _PAGE_HEADER_BYTES + 255)
        if len(header) < _PAGE_HEADER_BYTES or len(header) < _PAGE_HEADER_BYTES + header[26]:
            yield position, size + 1, 0, 0
            return
        flags, granule = struct.unpack_from("<Bq", header, 5)
        header_bytes = _PAGE_HEADER_BYTES + header[26]
        end = position + header_bytes + sum(header[_PAGE_HEADER_BYTES:header_bytes])
        yield position, end, flags, granule
        position = end
