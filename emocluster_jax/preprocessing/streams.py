"""What a decoder is given of a file: ranges of its bytes in the order of playing, some of them mended."""

from __future__ import annotations

import io
import os
from bisect import bisect_right
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from jaxtyping import Float

from emocluster_jax.errors import RecordingError

BLOCK_SAMPLES = 1 << 18
"""Of all channels, that are decoded at a time."""
TOLERATED_LOSS = 0.01
"""A recording of which less than this share is missing is used, and counted as cut."""
CUT_SHORT = "truncated: the file ends before its data do"


class AudioError(RecordingError):
    """Why audio cannot be used."""


class Stream(NamedTuple):
    """A stream that a decoder reads from its start to its end.

    Attributes:
      parts: what it consists of, bytes or ranges of the file; None is the file as it is.
      samples: its length by its frames; None is what its decoder says, and 0 that nothing says it.
      claimed_bytes: the length by which a decoder that guesses a duration guesses one that is too long; 0 is the truth.
    """

    parts: Sequence[bytes | range] | None = None
    samples: int | None = None
    claimed_bytes: int = 0


@dataclass(frozen=True)
class Contents:
    """What of a file is decoded.

    Attributes:
      streams: one after the other; usually one.
      missing: share of the samples that the file ends before, or that are unreadable.
      is_unfinished: whether the header was never completed, as a recorder leaves it that crashes.
    """

    streams: Sequence[Stream] = (Stream(),)
    missing: float = 0.0
    is_unfinished: bool = False


class Decoded(NamedTuple):
    """A file that is being decoded.

    Attributes:
      rate: its sample rate in Hz.
      blocks: its samples, (samples, channels) float32; at their end the share that is missing, NaN where it is unknown.
    """

    rate: int
    blocks: Generator[Float[np.ndarray, "samples channels"], None, float]


class SplicedFile(io.RawIOBase):
    """Parts of an open file as a file of its own, which can be read only.

    An error of reading ends the data, since it could not leave libsndfile: it is kept in `failure`.
    """

    _TAIL_BYTES = 128
    """What libmpg123 looks for a tag at the end of a file; without an answer it takes the file for unreadable."""

    def __init__(self, file: BinaryIO, stream: Stream) -> None:
        super().__init__()
        self._file = file
        self._parts = stream.parts or ()
        self._ends = list(accumulate(len(part) for part in self._parts))
        self.size = self._ends[-1] if self._ends else 0
        self._claimed = max(stream.claimed_bytes, self.size)
        self._position = 0
        self.failure: OSError | None = None

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._claimed}[whence]
        self._position = max(start + offset, 0)
        return self._position

    def readinto(self, buffer: Any) -> int:
        view, filled = memoryview(buffer).cast("B"), 0
        try:
            while filled < len(view):
                content = self._read(len(view) - filled)
                if not content:
                    break
                view[filled : filled + len(content)] = content
                filled += len(content)
                self._position += len(content)
        except OSError as error:
            self.failure = error
        return filled

    def _read(self, count: int) -> bytes:
        """What follows in the part at the position."""
        if self._position >= self.size:
            in_tail = self._claimed > self.size and self._position >= self._claimed - self._TAIL_BYTES
            return bytes(max(min(count, self._claimed - self._position), 0)) if in_tail else b""
        index = bisect_right(self._ends, self._position)
        part = self._parts[index]
        offset = self._position - (self._ends[index] - len(part))
        if isinstance(part, bytes):
            return part[offset : offset + count]
        return read_at(self._file, part.start + offset, min(count, len(part) - offset))


def read_at(file: BinaryIO, position: int, count: int) -> bytes:
    """What lies there: fewer bytes at the end of the file."""
    file.seek(position)
    return file.read(count)


def size_of(file: BinaryIO) -> int:
    """A file's length in bytes."""
    return file.seek(0, os.SEEK_END)
