"""The frames of an MPEG audio file (ISO/IEC 11172-3, 13818-3): MP3, of any bit rate, one after the other or damaged.

An MP3 file has no header, but frames of a fraction of a second. libsndfile believes the number of frames that the first
one may hold (Xing's or LAME's), or guesses it from that one's bit rate, stops there, and stops where frames change.
So frames are counted here, and what is between them is kept from the decoder, which would complain of it on stderr.
"""

from __future__ import annotations

import struct
import sys
from dataclasses import dataclass, field
from functools import lru_cache
from typing import BinaryIO, NamedTuple

from emocluster_jax.preprocessing.streams import Contents, Stream, read_at, size_of

_V1_KBPS = {
    1: (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    2: (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    3: (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
}
"""Bit rates by layer and index, of MPEG-1."""
_V2_KBPS = {
    1: (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    2: (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    3: (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
"""The same of MPEG-2 and 2.5."""
_BLOCK_BYTES = 1 << 20
_LARGEST_FRAME = 2_881
_COUNT_TAGS = (b"Xing", b"Info")
_GUESS_FACTOR = 1_024
"""Beyond the ratio of the largest frame to the smallest: a duration guessed by the first frame is too long then."""


class _Frame(NamedTuple):
    """What a frame's header says.

    Attributes:
      size: bytes, with the header.
      samples: of each channel.
      kind: version, layer, sample rate and whether it is mono; frames of a stream have the same.
      count_at: where its first frame may hold the number of frames.
    """

    size: int
    samples: int
    kind: tuple[int, int, int, bool]
    count_at: int


@dataclass
class _Segment:
    """Frames of one kind that one decoder takes.

    Attributes:
      frame: the first one.
      parts: their places.
      frames: how many, without the one that holds their number.
      declared: the number that is held; None where there is none.
      declared_bytes: the number of bytes that is held with it; -1 where there is none.
      bytes_at: where in the first frame the number of bytes stands.
    """

    frame: _Frame
    parts: list[range] = field(default_factory=list)
    frames: int = 0
    declared: int | None = None
    declared_bytes: int = -1
    bytes_at: int = 0

    @property
    def end(self) -> int:
        return self.parts[-1].stop

    @property
    def room(self) -> int:
        """How many frames it takes yet."""
        return sys.maxsize if self.declared is None else self.declared - self.frames

    def add(self, place: range) -> None:
        if self.parts and self.end == place.start:
            self.parts[-1] = range(self.parts[-1].start, place.stop)
        else:
            self.parts.append(place)


class _Count(NamedTuple):
    """Numbers of frames and bytes in a stream's first frame, -1 where they are not given, and where the latter is."""

    frames: int
    bytes: int
    bytes_at: int


def is_mpeg_audio(start: bytes) -> bool:
    """Whether what begins so are MPEG audio frames."""
    return _frame_of(start[:4]) is not None or _is_free_format(start)


def mpeg_contents(file: BinaryIO, start: int = 0, end: int | None = None) -> Contents:
    """The streams of the MPEG audio frames that lie from `start` up to `end`; none where there are no frames."""
    window = _Window(file, size_of(file) if end is None else end)
    first = start
    while tag := _tag_bytes(window, first):
        first += tag
    if _is_free_format(window.read(first, 4)):
        return Contents()  # its frames tell no sizes
    segments, unreadable, is_unfinished = _walked(window, first)
    if start == 0 and end is None and len(segments) == 1 and _is_as_declared(segments[0], window, first):
        return Contents()
    frames = sum(segment.frames for segment in segments)
    lost = sum(max((segment.declared or 0) - segment.frames, 0) for segment in segments)
    there = sum(len(part) for segment in segments for part in segment.parts)
    missing = max(lost / max(lost + frames, 1), unreadable / max(unreadable + there, 1))
    return Contents([_stream(segment) for segment in segments if segment.frames], missing, is_unfinished)


def _walked(window: _Window, position: int) -> tuple[list[_Segment], int, bool]:
    """The frames from a position on, how many bytes among them are none, and whether the last one is half there."""
    segments: list[_Segment] = []
    unreadable, gap, is_unfinished = 0, 0, False
    while position < window.end:
        frame = _frame_of(window.read(position, 4))
        last = segments[-1] if segments else None
        if frame is not None and _is_frame(window, position, frame, last):
            if position + frame.size > window.end:
                is_unfinished = last is not None and last.declared is None
                break
            unreadable, gap = unreadable + gap, 0
            count = _count(window, position, frame)
            if count is not None and count.frames == 0:
                is_unfinished = True  # a place was kept for the number, and it never came
            elif last is None or count is not None or last.frame.kind != frame.kind or not last.room:
                segments.append(_started(frame, count))
            if count is None:
                frames, following = window.run(position, frame.kind, segments[-1].room)
                segments[-1].frames += frames
                segments[-1].add(range(position, following))
                position = following
            else:
                if count.frames:
                    segments[-1].add(range(position, position + frame.size))
                position += frame.size
        elif tag := _tag_bytes(window, position):
            position += tag
        else:
            following = window.find(b"\xff", position + 1)
            gap += following - position
            position = following
    if segments and segments[-1].room:
        unreadable += gap
    return segments, unreadable, is_unfinished


def _is_as_declared(segment: _Segment, window: _Window, first: int) -> bool:
    """Whether a file is one stream as its first frame describes it, for which libmpg123 needs no help."""
    tag = 128 if window.read(max(window.end - 128, 0), 3) == b"TAG" else 0
    place = range(first, window.end - tag)
    return (
        segment.parts == [place] and not segment.room and segment.declared_bytes in (-1, len(place), len(place) + tag)
    )


def _started(frame: _Frame, count: _Count | None) -> _Segment:
    if count is None or count.frames < 0:
        return _Segment(frame)
    return _Segment(frame, [], 0, *count)


def _stream(segment: _Segment) -> Stream:
    size = sum(len(part) for part in segment.parts)
    if segment.declared is None:
        return Stream(segment.parts, segment.frames * segment.frame.samples, size * _GUESS_FACTOR)
    if segment.declared_bytes < 0:
        return Stream(segment.parts)
    # libmpg123 complains where the bytes are not as many as declared.
    first, at = segment.parts[0], segment.parts[0].start + segment.bytes_at
    return Stream([range(first.start, at), struct.pack(">I", size), range(at + 4, first.stop), *segment.parts[1:]])


def _is_frame(window: _Window, position: int, frame: _Frame, last: _Segment | None) -> bool:
    """Whether what looks like a frame's header is one: the next one follows, or it follows another."""
    end = position + frame.size
    follows = last is not None and last.end == position and last.frame.kind == frame.kind
    if end >= window.end:
        return follows
    following = _frame_of(window.read(end, 4))
    if following is not None and following.kind == frame.kind:
        return True
    if _tag_bytes(window, end) or (following is not None and follows):
        return True
    return follows and not _has_frames(window, position + 1, end, frame.kind)


def _has_frames(window: _Window, start: int, end: int, kind: tuple[int, int, int, bool]) -> bool:
    """Whether two frames of this kind follow each other, the first of which begins in this range."""
    while (start := window.find(b"\xff", start)) < end:
        frame = _frame_of(window.read(start, 4))
        if frame is not None and frame.kind == kind:
            following = _frame_of(window.read(start + frame.size, 4))
            if following is not None and following.kind == kind:
                return True
        start += 1
    return False


def _count(window: _Window, position: int, frame: _Frame) -> _Count | None:
    """What a first frame holds beside its header; None where it is one of sound."""
    head = window.read(position + frame.count_at, 16)
    if len(head) < 16 or head[:4] not in _COUNT_TAGS or frame.kind[1] != 3:
        return None
    flags, *numbers = struct.unpack(">3I", head[4:])
    has_frames, has_bytes = flags & 1, flags >> 1 & 1
    return _Count(
        numbers[0] if has_frames else -1,
        numbers[has_frames] if has_bytes else -1,
        frame.count_at + 8 + 4 * has_frames,
    )


def id3_bytes(start: bytes) -> int:
    """The size of the ID3v2 tag that a file begins with; 0 where there is none."""
    if start[:3] != b"ID3" or len(start) < 10:
        return 0
    # Sizes hold seven bits a byte.
    return 10 + sum((byte & 0x7F) << shift for byte, shift in zip(start[6:10], (21, 14, 7, 0), strict=True))


def _tag_bytes(window: _Window, position: int) -> int:
    """The size of an ID3 or APE tag that begins there; 0 where none does."""
    start = window.read(position, 32)
    if tag := id3_bytes(start):
        return tag
    if start[:3] == b"TAG":
        return 128
    if start[:8] == b"APETAGEX" and len(start) == 32:
        size, flags = struct.unpack_from("<I4xI", start, 12)
        # The size counts what follows the header, if there is one, and the footer, which may be what is here.
        return 32 + (size if flags >> 29 & 1 else 0)
    return 0


def _is_free_format(start: bytes) -> bool:
    return _frame_of(start[:4], free_format=True) is not None and not start[2] >> 4


@lru_cache(maxsize=4096)
def _frame_of(header: bytes, free_format: bool = False) -> _Frame | None:
    """What four bytes say as a frame's header; None where they are none, or do not tell a size."""
    if len(header) < 4 or header[0] != 0xFF or header[1] & 0xE0 != 0xE0:
        return None
    version, layer = header[1] >> 3 & 3, 4 - (header[1] >> 1 & 3)
    rate_index, kbps_index, padding = header[2] >> 2 & 3, header[2] >> 4, header[2] >> 1 & 1
    if version == 1 or layer == 4 or rate_index == 3 or kbps_index == 15 or (not kbps_index and not free_format):
        return None
    is_v1, is_mono = version == 3, header[3] >> 6 == 3
    rate = (44_100, 48_000, 32_000)[rate_index] // (1 if is_v1 else 2 if version == 2 else 4)
    bits = 1_000 * (_V1_KBPS if is_v1 else _V2_KBPS)[layer][kbps_index - 1]
    samples = {1: 384, 2: 1_152, 3: 1_152 if is_v1 else 576}[layer]
    size = (12 * bits // rate + padding) * 4 if layer == 1 else samples // 8 * bits // rate + padding
    side_bytes = (17 if is_mono else 32) if is_v1 else (9 if is_mono else 17)
    return _Frame(size, samples, (version, layer, rate, is_mono), 4 + side_bytes)


class _Window:
    """A file from anywhere up to an end, read in blocks: frames are small."""

    def __init__(self, file: BinaryIO, end: int) -> None:
        self.end = end
        self._file = file
        self._start = 0
        self._block = b""

    def read(self, position: int, count: int) -> bytes:
        """At most `_LARGEST_FRAME` bytes; fewer at the end."""
        offset = position - self._start
        if offset < 0 or offset + count > len(self._block):
            size = max(min(_BLOCK_BYTES, self.end - position), 0)
            if self._start + len(self._block) < self.end or offset < 0:
                self._start, self._block, offset = position, read_at(self._file, position, size), 0
        return self._block[offset : offset + count]

    def run(self, position: int, kind: tuple[int, int, int, bool], most: int) -> tuple[int, int]:
        """How many frames of sound follow each other from one on, as far as a block shows it, and where they end.

        The last of them is followed by another frame of its kind, or the only one.
        """
        self.read(position, _LARGEST_FRAME)
        block, offset, before, frames = self._block, position - self._start, 0, 0
        while frames < most:
            frame = _frame_of(block[offset : offset + 4])
            if frame is None or frame.kind != kind or self._start + offset + frame.size > self.end:
                break
            if block[offset + frame.count_at : offset + frame.count_at + 4] in _COUNT_TAGS:
                break
            before, offset, frames = offset, offset + frame.size, frames + 1
        else:
            return frames, self._start + offset
        return (frames - 1, self._start + before) if frames > 1 else (frames, self._start + offset)

    def find(self, byte: bytes, position: int) -> int:
        """Where the byte is next; the end where it is not."""
        while position < self.end:
            self.read(position, 1)
            found = self._block.find(byte, position - self._start)
            if found >= 0:
                return self._start + found
            position = self._start + len(self._block)
            if not self._block:
                break
        return self.end
