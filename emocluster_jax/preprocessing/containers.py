"""Finds the samples in WAV, AIFF, CAF, W64, AU and NIST files, and whether they are complete.

libsndfile decodes a file to its end although its header promises more, and nothing if the header was never completed.
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

from numpy.lib.format import MAGIC_PREFIX

from emocluster_jax.errors import RecordingError
from emocluster_jax.preprocessing.file_contents import TOLERATED_LOSS, Contents, Stream, read_at, size_of

_STREAMED = 0x7F000000
"""32-bit data sizes from here on are placeholders of programs that write to a pipe (sox, ffmpeg)."""
_STREAMED_64 = (1 << 63) - 1
"""The same for 64-bit sizes."""
_FAR_OFF = 1 << 62
_MOST_CHUNKS = 1_000
"""The most chunks that are searched for the samples, in case the file is garbage."""
_W64_RIFF = b"riff\x2e\x91\xcf\x11\xa5\xd6\x28\xdb\x04\xc1\x00\x00"
_W64_DATA = b"data\xf3\xac\xd3\x11\x8c\xd1\x00\xc0\x4f\x8e\xdb\x8a"
_NIST = b"NIST_1A\n"
_EXTENSIBLE = 0xFFFE
_BEHIND_SAMPLES = frozenset(
    {b"LIST", b"list", b"id3 ", b"ID3 ", b"bext", b"iXML", b"axml", b"cue ", b"smpl", b"inst", b"JUNK", b"junk"}
    | {b"PAD ", b"FLLR", b"PEAK", b"DISP", b"COMM", b"ANNO", b"NAME", b"AUTH", b"MARK", b"APPL", b"info", b"free"}
)
"""Chunks that programs write after the samples."""
_LONGEST_TAG = 4096
"""Bytes that may follow the last chunk: tags."""


class Layout(NamedTuple):
    """How a file of named chunks is laid out."""

    first: int  # where its first chunk begins
    header: str  # `struct` format of a chunk's name and size
    data: bytes  # name of the chunk that holds the samples
    alignment: int  # chunks begin at multiples of this
    whole_size: tuple[str, int, int] | None  # the file's size: `struct` format, place, and how much it leaves out
    size_has_header: bool = False  # whether a chunk's size includes the chunk's header
    preamble: int = 0  # bytes of the data chunk before its samples
    streamed: int = _STREAMED  # from here on, data sizes are placeholders

    @property
    def header_bytes(self) -> int:
        return struct.calcsize(self.header)

    def counted_from(self, content: int) -> int:
        """Where the size of a chunk counts from, if its content begins there."""
        return content - self.header_bytes if self.size_has_header else content

    def aligned(self, position: int) -> int:
        """The first place at or after the position where a chunk may begin."""
        return position + -position % self.alignment


_LAYOUTS = {
    rb"RIFF....WAVE": Layout(12, "<4sI", b"data", 2, ("<I", 4, 8)),
    rb"RF64....WAVE": Layout(12, "<4sI", b"data", 2, ("<Q", 20, 8)),
    rb"RIFX....WAVE": Layout(12, ">4sI", b"data", 2, (">I", 4, 8)),
    rb"FORM....AIF[FC]": Layout(12, ">4sI", b"SSND", 2, (">I", 4, 8), preamble=8),
    rb"caff": Layout(8, ">4sQ", b"data", 1, None, preamble=4, streamed=_STREAMED_64),
    re.escape(_W64_RIFF): Layout(40, "<16sQ", _W64_DATA, 8, ("<Q", 16, 0), size_has_header=True, streamed=_STREAMED_64),
}
"""By the first bytes of the file."""


class Samples(NamedTuple):
    """Where a file's samples lie, and how its header gives their size."""

    start: int
    end: int | None  # according to the header; None if that holds a placeholder
    size_at: int = 0
    size_form: str = ">I"  # `struct` format
    counted_from: int = 0


def layout_of(start: bytes) -> Layout | None:
    """The layout of a file with these first 40 bytes; None if it has no named chunks."""
    return next((layout for first, layout in _LAYOUTS.items() if re.match(first, start, re.DOTALL)), None)


def is_known_container(file: BinaryIO) -> bool:
    """Whether a file begins like a WAV, W64, FLAC, Ogg, AIFF, CAF, AU, NIST or MP3 file."""
    start = read_at(file, 0, 8)
    known = (b"RIFF", b"RIFX", b"RF64", _W64_RIFF[:4], b"fLaC", b"OggS", b"FORM", b"caff", b".snd")
    is_mp3 = start[:3] == b"ID3" or (len(start) > 1 and start[0] == 0xFF and start[1] & 0xE0 == 0xE0)
    return start[:4] in known or start == _NIST or is_mp3


def is_npy(file: BinaryIO) -> bool:
    """Whether a file begins like one that `numpy.save` wrote."""
    return read_at(file, 0, len(MAGIC_PREFIX)) == MAGIC_PREFIX


def contents_by_header(file: BinaryIO) -> Contents:
    """The samples according to the header, which is repaired if libsndfile needs that; any other file as it is.

    RecordingError if a second file of the same kind follows in the same file.
    """
    start, size = read_at(file, 0, 40), size_of(file)
    layout = layout_of(start)
    if layout is not None:
        whole_end = _whole_end(layout, start)
        if 40 <= whole_end < size and layout_of(read_at(file, whole_end, 40)) is not None:
            raise RecordingError("several recordings in one file, of which one would be used: give them one by one")
        samples = _chunk_samples(file, layout, start)
        is_unfinished = samples is not None and samples.end is not None and _goes_on(file, layout, samples, whole_end)
    else:
        samples = _au_samples(start) if start[:4] == b".snd" else _nist_samples(file) if start[:8] == _NIST else None
        is_unfinished = samples is not None and samples.end is not None and samples.end <= samples.start < size
    if samples is None:
        return Contents()
    missing = 0.0 if samples.end is None else max(samples.end - size, 0) / max(samples.end - samples.start, 1)
    # libsndfile refuses a CAF file with an open or too large length, but reads other files to their ends.
    is_repaired = is_unfinished or (start[:4] == b"caff" and (samples.end is None or missing))
    return Contents((_repaired(samples, size) if is_repaired else Stream(),), missing, is_unfinished)


def wav_codec(file: BinaryIO) -> tuple[int, range] | None:
    """The codec that a WAV file's `fmt ` chunk names, and where its data lie; None for other files."""
    start = read_at(file, 0, 40)
    layout = layout_of(start)
    if layout is None or layout.data != b"data" or layout.first != 12:
        return None
    found = next((content for name, content, _ in _chunks(file, layout, layout.first) if name == b"fmt "), None)
    content = b"" if found is None else read_at(file, found, 26)
    if len(content) < 16:
        return None
    order = layout.header[0]
    (codec,) = struct.unpack_from(f"{order}H", content)
    if codec == _EXTENSIBLE and len(content) == 26:
        (codec,) = struct.unpack_from(f"{order}H", content, 24)
    samples, size = _chunk_samples(file, layout, start), size_of(file)
    if samples is None:
        return codec, range(0)
    end = size if samples.end is None or samples.end <= samples.start else min(samples.end, size)
    return codec, range(samples.start, end)


def _goes_on(file: BinaryIO, layout: Layout, samples: Samples, whole_end: int) -> bool:
    """Whether there are samples after the end that the header gives, as when a recorder crashes."""
    size, end = size_of(file), layout.aligned(max(samples.end or 0, samples.start))
    inside = whole_end if end <= whole_end <= size else size
    if not _are_chunks(file, layout, end, inside):
        return True
    # Some programs write tags of their own after the last chunk. Anything longer was recorded.
    is_long = size - inside >= max(TOLERATED_LOSS * (size - samples.start), _LONGEST_TAG)
    return is_long and not _are_chunks(file, layout, inside, size)


def _are_chunks(file: BinaryIO, layout: Layout, position: int, end: int) -> bool:
    """Whether there is nothing but chunks, or zeros, between two places."""
    for name, content, chunk_bytes in _chunks(file, layout, position):
        if content > end or not (any(name) or chunk_bytes):
            return True
        if layout.counted_from(content) + chunk_bytes > end + layout.alignment:
            return name[:4] in _BEHIND_SAMPLES  # cut off
        if not name[:4].isascii() or not name[:4].decode("ascii").isprintable():
            return False
    return True


def _repaired(samples: Samples, size: int) -> Stream:
    """The file with the size of all the samples that are there."""
    most = (1 << 8 * struct.calcsize(samples.size_form)) - 1
    field = struct.pack(samples.size_form, min(size - samples.counted_from, most))
    return Stream([range(samples.size_at), field, range(samples.size_at + len(field), size)])


def _whole_end(layout: Layout, start: bytes) -> int:
    """Where the file ends according to the size in its header; far off if there is none."""
    if layout.whole_size is None or len(start) < 40:
        return _FAR_OFF
    form, place, left_out = layout.whole_size
    return min(layout.aligned(struct.unpack_from(form, start, place)[0] + left_out), _FAR_OFF)


def _chunks(file: BinaryIO, layout: Layout, position: int) -> Iterator[tuple[bytes, int, int]]:
    """Each chunk from a position on: its name, where its content begins, and its size as written."""
    for _ in range(_MOST_CHUNKS):
        header = read_at(file, position, layout.header_bytes) if position < _FAR_OFF else b""
        if len(header) < layout.header_bytes:
            return
        name, chunk_bytes = struct.unpack(layout.header, header)
        content = position + layout.header_bytes
        yield name, content, chunk_bytes
        position = layout.aligned(max(layout.counted_from(content) + chunk_bytes, content))


def _chunk_samples(file: BinaryIO, layout: Layout, start: bytes) -> Samples | None:
    found = next((place for name, *place in _chunks(file, layout, layout.first) if name == layout.data), None)
    if found is None:
        return None
    content, chunk_bytes = found
    size_form, streamed = layout.header[0] + layout.header[-1], layout.streamed
    size_at = content - struct.calcsize(size_form)
    if start[:4] == b"RF64" and start[12:16] == b"ds64" and chunk_bytes == 0xFFFFFFFF and len(start) >= 36:
        # The ds64 chunk holds the sizes of the file and of the samples that need more than 32 bits.
        chunk_bytes, size_at, size_form, streamed = struct.unpack_from("<Q", start, 28)[0], 28, "<Q", _STREAMED_64
    counted_from = layout.counted_from(content)
    end = None if chunk_bytes >= streamed else counted_from + chunk_bytes
    return Samples(content + layout.preamble, end, size_at, size_form, counted_from)


def _au_samples(start: bytes) -> Samples | None:
    if len(start) < 12:
        return None
    offset, data_bytes = struct.unpack_from(">II", start, 4)
    return Samples(offset, None if data_bytes >= _STREAMED else offset + data_bytes, 8, ">I", offset)


def _nist_samples(file: BinaryIO) -> Samples | None:
    """The samples of a SPHERE file, which has a header of lines with a name, a type and a value."""
    header = read_at(file, 0, 1024)
    fields = dict(re.findall(rb"^(\w+) -i (\d{1,15})\s*$", header, re.MULTILINE))
    length = re.match(rb"NIST_1A\n *(\d{1,9})\n", header)
    names = (b"sample_count", b"channel_count", b"sample_n_bytes")
    if length is None or not all(name in fields for name in names) or b"shorten" in header:
        return None
    start, size = int(length[1]), math.prod(int(fields[name]) for name in names)
    return Samples(start, start + size if size else None)
