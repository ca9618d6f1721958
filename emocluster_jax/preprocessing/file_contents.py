"""What a decoder gets of a file: ranges of its bytes in playing order, some with repaired headers."""

from __future__ import annotations

import io
import os
import stat
from bisect import bisect_right
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from itertools import accumulate
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from jaxtyping import Float

from emocluster_jax.errors import RecordingError

BLOCK_SAMPLES = 1 << 18
"""Samples that are decoded at a time, all channels together."""
TOLERATED_LOSS = 0.01
"""A recording that lacks less than this share is used, and counted as cut."""
CUT_SHORT = "truncated: the file ends before its data do"
_BLOCK_BYTES = 1 << 13

Blocks = Generator[Float[np.ndarray, "samples channels"], None, float]
"""Samples as float32; returns the share that is missing, NaN if that is unknown."""


class Stream(NamedTuple):
    """A stream that a decoder reads from start to end."""

    parts: Sequence[bytes | range] | None = None  # bytes, or ranges of the file; None for the file as it is
    samples: int | None = None  # its length according to its frames, 0 if unknown; None to ask its decoder
    claimed_bytes: int = 0  # a length, too large on purpose, for decoders that guess a duration from it


class Contents(NamedTuple):
    """What is decoded of a file."""

    streams: Sequence[Stream] = (Stream(),)  # in playing order; usually one
    missing: float = 0.0  # share of the samples that lie beyond the file's end or are unreadable
    is_unfinished: bool = False  # whether the header was never completed, as when a recorder crashes


class SplicedFile(io.RawIOBase):
    """Parts of an open file as a read-only file of their own.

    Read errors cannot pass through libsndfile, so they end the data and are kept in `failure`.
    """

    _TAIL_BYTES = 128
    """Where libmpg123 looks for a tag at the end of a file; if it gets no answer it takes the file for unreadable."""

    def __init__(self, file: BinaryIO, stream: Stream) -> None:
        super().__init__()
        self._file = file
        self._parts = stream.parts or ()
        self._ends = list(accumulate(len(part) for part in self._parts))
        self.size = self._ends[-1] if self._ends else 0
        self._claimed = max(stream.claimed_bytes, self.size)
        self._position = 0
        self.failure: OSError | None = None

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._claimed}[whence]
        self._position = max(start + offset, 0)
        return self._position

    def readinto(self, buffer: Any) -> int:
        view, filled = memoryview(buffer).cast("B"), 0
        try:
            while content := self._read(len(view) - filled):
                view[filled : filled + len(content)] = content
                filled += len(content)
                self._position += len(content)
        except OSError as error:
            self.failure = error
        return filled

    def _read(self, count: int) -> bytes:
        """The next bytes of the part at the current position."""
        if self._position >= self.size:
            in_tail = self._claimed > self.size and self._position >= self._claimed - self._TAIL_BYTES
            return bytes(max(min(count, self._claimed - self._position), 0)) if in_tail else b""
        index = bisect_right(self._ends, self._position)
        part = self._parts[index]
        offset = self._position - (self._ends[index] - len(part))
        if isinstance(part, bytes):
            return part[offset : offset + count]
        return read_at(self._file, part.start + offset, min(count, len(part) - offset))


@contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """A recording's file, open for reading; the file system's errors become RecordingErrors, also within the block."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise RecordingError("not a file")
        with path.open("rb") as file:
            yield file
    except FileNotFoundError:
        raise RecordingError("no such file") from None
    except OSError as error:
        raise RecordingError(f"cannot be read: {(error.strerror or str(error)).lower()}") from None


def read_at(file: BinaryIO, position: int, count: int) -> bytes:
    """The bytes at a position; fewer at the end of the file."""
    file.seek(position)
    return file.read(count)


def size_of(file: BinaryIO) -> int:
    """A file's length in bytes."""
    return file.seek(0, os.SEEK_END)


def find(file: BinaryIO, wanted: bytes, position: int, end: int) -> int:
    """Where these bytes occur next; `end` if that is not before it."""
    while position < end:
        block = read_at(file, position, _BLOCK_BYTES)
        if (found := block.find(wanted)) >= 0:
            return min(position + found, end)
        position += max(len(block) - len(wanted) + 1, 1)
    return end
