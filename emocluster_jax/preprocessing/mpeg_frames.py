"""The frames of MPEG audio files (ISO/IEC 11172-3, 13818-3): MP3 of any bit rate, concatenated or damaged.

An MP3 file has no header, only frames of a fraction of a second. libsndfile takes their number from the first frame, if
that holds it (Xing's or LAME's), or else guesses it from the bit rate; it stops there, and where the kind of frame
changes. So frames are counted here, and the decoder never sees what lies between them, which it would complain about.
"""

from __future__ import annotations

import struct
import sys
from dataclasses import dataclass, field
from functools import lru_cache
from typing import BinaryIO, NamedTuple

from emocluster_jax.preprocessing.file_contents import Contents, Stream, find, read_at, size_of

_KBPS = {
    (True, 1): (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (True, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (True, 3): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (False, 1): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (False, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (False, 3): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
"""Bit rates by whether it is MPEG-1 (and not 2 or 2.5), layer, and index."""
_BLOCK_BYTES = 1 << 16
_COUNT_TAGS = (b"Xing", b"Info")
_GUESS_FACTOR = 1_024
"""More than the ratio of the largest frame to the smallest, so that a duration guessed from it is too long."""

_Kind = tuple[int, int, int, bool]
"""Version, layer, sample rate and whether it is mono: the same for all frames of a stream."""


class _Frame(NamedTuple):
    """What a frame's header says."""

    size: int  # in bytes, header included
    samples: int  # per channel
    kind: _Kind
    count_at: int  # where a stream's first frame may hold the number of frames


class _Count(NamedTuple):
    """What a stream's first frame may declare."""

    frames: int | None = None  # that follow it
    bytes: int | None = None  # of the stream
    bytes_at: int = 0  # where in the frame `bytes` is written


@dataclass
class _Run:
    """Frames of one kind, for one decoder."""

    frame: _Frame  # the first one
    declared: _Count
    parts: list[range] = field(default_factory=list)  # where the frames are
    frames: int = 0  # without the one that declares their number

    @property
    def end(self) -> int:
        return self.parts[-1].stop

    @property
    def room(self) -> int:
        """How many more frames it may have."""
        return sys.maxsize if self.declared.frames is None else self.declared.frames - self.frames

    def add(self, place: range) -> None:
        if self.parts and self.end == place.start:
            place = range(self.parts.pop().start, place.stop)
        self.parts.append(place)


class _Section(NamedTuple):
    """A file up to an end."""

    file: BinaryIO
    end: int

    def read(self, position: int, count: int) -> bytes:
        return read_at(self.file, position, max(min(count, self.end - position), 0))

    def frame_at(self, position: int) -> _Frame | None:
        return _frame_of(self.read(position, 4))


def is_mpeg_audio(start: bytes) -> bool:
    """Whether a file with this beginning consists of MPEG audio frames."""
    return _frame_of(start[:4], free_format=True) is not None


def mpeg_contents(file: BinaryIO, start: int = 0, end: int | None = None) -> Contents:
    """The streams of the MPEG audio frames from `start` up to `end`; no streams if there are no frames."""
    section = _Section(file, size_of(file) if end is None else end)
    first = start
    while tag := _tag_bytes(section, first):
        first += tag
    if section.frame_at(first) is None and is_mpeg_audio(section.read(first, 4)):
        return Contents()  # free format: the headers of its frames do not tell their sizes
    runs, unreadable, is_unfinished = _runs(section, first)
    if start == 0 and end is None and len(runs) == 1 and _is_as_declared(runs[0], section, first):
        return Contents()
    frames = sum(run.frames for run in runs)
    lost = sum(max((run.declared.frames or 0) - run.frames, 0) for run in runs)
    there = sum(len(part) for run in runs for part in run.parts)
    missing = max(lost / max(lost + frames, 1), unreadable / max(unreadable + there, 1))
    return Contents([_stream(run) for run in runs if run.frames], missing, is_unfinished)


def _runs(section: _Section, position: int) -> tuple[list[_Run], int, bool]:
    """The frames from a position on, how many bytes between them are unreadable, and whether the last frame is cut."""
    runs: list[_Run] = []
    unreadable, gap, is_unfinished = 0, 0, False
    while position < section.end:
        frame = section.frame_at(position)
        last = runs[-1] if runs else None
        if frame is not None and _is_frame(section, position, frame, last):
            end = position + frame.size
            if end > section.end:
                is_unfinished = last is not None and last.declared.frames is None
                break
            unreadable, gap = unreadable + gap, 0
            count = _count(section, position, frame)
            if count is not None and count.frames == 0:
                is_unfinished = True  # space was reserved for the number, which was never written
            else:
                if last is None or count is not None or last.frame.kind != frame.kind or not last.room:
                    runs.append(_Run(frame, _Count() if count is None or count.frames is None else count))
                if count is None:
                    frames, end = _successive(section, position, frame, runs[-1].room)
                    runs[-1].frames += frames
                runs[-1].add(range(position, end))
            position = end
        elif tag := _tag_bytes(section, position):
            position += tag
        else:
            following = find(section.file, b"\xff", position + 1, section.end)
            gap += following - position
            position = following
    if runs and runs[-1].room:
        unreadable += gap
    return runs, unreadable, is_unfinished


def _successive(section: _Section, position: int, frame: _Frame, most: int) -> tuple[int, int]:
    """How many frames of one kind begin with this one, as far as one block shows, and where they end: all at once,
    since an hour has a hundred thousand."""
    block, start, frames = section.read(position, _BLOCK_BYTES), 0, 0
    while frames < most:
        end = start + frame.size
        following = _frame_of(block[end : end + 4])
        if following is None or following.kind != frame.kind:
            break
        if block[end + following.count_at : end + following.count_at + 4] in _COUNT_TAGS:
            break
        frame, start, frames = following, end, frames + 1
    return (frames, position + start) if frames else (1, position + frame.size)


def _is_as_declared(run: _Run, section: _Section, first: int) -> bool:
    """Whether a file is one stream as its first frame describes it, so that libmpg123 can read it by itself."""
    tag = 128 if section.read(max(section.end - 128, 0), 3) == b"TAG" else 0
    place = range(first, section.end - tag)
    return run.parts == [place] and not run.room and run.declared.bytes in (None, len(place), len(place) + tag)


def _stream(run: _Run) -> Stream:
    size = sum(len(part) for part in run.parts)
    if run.declared.frames is None:
        return Stream(run.parts, run.frames * run.frame.samples, size * _GUESS_FACTOR)
    if run.declared.bytes is None:
        return Stream(run.parts)
    # libmpg123 complains if there are not as many bytes as declared.
    first, at = run.parts[0], run.parts[0].start + run.declared.bytes_at
    return Stream([range(first.start, at), struct.pack(">I", size), range(at + 4, first.stop), *run.parts[1:]])


def _is_frame(section: _Section, position: int, frame: _Frame, last: _Run | None) -> bool:
    """Whether what looks like a frame's header is one: another frame follows it, or it follows another frame."""
    end = position + frame.size
    follows = last is not None and last.end == position and last.frame.kind == frame.kind
    if end >= section.end:
        return follows
    following = section.frame_at(end)
    if following is not None and (follows or following.kind == frame.kind):
        return True
    return _tag_bytes(section, end) > 0 or (follows and not _has_frames(section, position + 1, end, frame.kind))


def _has_frames(section: _Section, start: int, end: int, kind: _Kind) -> bool:
    """Whether two successive frames of this kind begin in this range."""
    while (start := find(section.file, b"\xff", start, end)) < end:
        frame = section.frame_at(start)
        if frame is not None and frame.kind == kind:
            following = section.frame_at(start + frame.size)
            if following is not None and following.kind == kind:
                return True
        start += 1
    return False


def _count(section: _Section, position: int, frame: _Frame) -> _Count | None:
    """What a stream's first frame declares; None if it is an ordinary one."""
    head = section.read(position + frame.count_at, 16)
    if len(head) < 16 or head[:4] not in _COUNT_TAGS or frame.kind[1] != 3:
        return None
    flags, *numbers = struct.unpack(">3I", head[4:])
    has_frames, has_bytes = flags & 1, flags >> 1 & 1
    bytes_at = frame.count_at + 8 + 4 * has_frames
    return _Count(numbers[0] if has_frames else None, numbers[has_frames] if has_bytes else None, bytes_at)


def id3_bytes(start: bytes) -> int:
    """The size of the ID3v2 tag that a file begins with; 0 if there is none."""
    if start[:3] != b"ID3" or len(start) < 10:
        return 0
    # Sizes have seven bits per byte.
    return 10 + sum((byte & 0x7F) << shift for byte, shift in zip(start[6:10], (21, 14, 7, 0), strict=True))


def _tag_bytes(section: _Section, position: int) -> int:
    """The size of the ID3 or APE tag that begins there; 0 if there is none."""
    start = section.read(position, 32)
    if start[:3] == b"TAG":
        return 128
    if start[:8] == b"APETAGEX" and len(start) == 32:
        size, flags = struct.unpack_from("<I4xI", start, 12)
        # The size leaves out the header. What begins here may be the header or the footer.
        return 32 + (size if flags >> 29 & 1 else 0)
    return id3_bytes(start)


@lru_cache(maxsize=4096)
def _frame_of(header: bytes, free_format: bool = False) -> _Frame | None:
    """Reads four bytes as a frame's header; None if they are not one, or do not tell a size."""
    if len(header) < 4 or header[0] != 0xFF or header[1] & 0xE0 != 0xE0:
        return None
    version, layer = header[1] >> 3 & 3, 4 - (header[1] >> 1 & 3)
    rate_index, kbps_index, padding = header[2] >> 2 & 3, header[2] >> 4, header[2] >> 1 & 1
    if version == 1 or layer == 4 or rate_index == 3 or kbps_index == 15 or (not kbps_index and not free_format):
        return None
    is_v1, is_mono = version == 3, header[3] >> 6 == 3
    rate = (44_100, 48_000, 32_000)[rate_index] // (1 if is_v1 else 2 if version == 2 else 4)
    bits = 1_000 * _KBPS[is_v1, layer][kbps_index - 1]
    samples = {1: 384, 2: 1_152, 3: 1_152 if is_v1 else 576}[layer]
    size = (12 * bits // rate + padding) * 4 if layer == 1 else samples // 8 * bits // rate + padding
    side_bytes = (17 if is_mono else 32) if is_v1 else (9 if is_mono else 17)
    return _Frame(size, samples, (version, layer, rate, is_mono), 4 + side_bytes)
