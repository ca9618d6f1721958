"""Where samples lie in files of named chunks and their like, and whether all are there: WAV, AIFF, FLAC …

libsndfile takes whatever lies in a WAV, RF64, W64, AIFF, CAF, AU or NIST file whose header promises more, nothing where
the header was never completed, and the first of several FLAC streams in a file.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from typing import BinaryIO, NamedTuple

from numpy.lib.format import MAGIC_PREFIX

from emocluster_jax.preprocessing.streams import TOLERATED_LOSS, AudioError, Contents, Stream, read_at, size_of

STREAMED = 0x7F000000
"""32-bit data sizes from here on are the placeholders of programs that write to a pipe (sox, ffmpeg)."""
_STREAMED_64 = (1 << 63) - 1
"""The same for 64-bit sizes."""
_MOST_CHUNKS = 1_000
"""How far a file is searched for its data, lest garbage be searched to its end."""
_W64_RIFF = b"riff\x2e\x91\xcf\x11\xa5\xd6\x28\xdb\x04\xc1\x00\x00"
_W64_DATA = b"data\xf3\xac\xd3\x11\x8c\xd1\x00\xc0\x4f\x8e\xdb\x8a"
_EXTENSIBLE = 0xFFFE
_FLAC_START = re.compile(rb"fLaC[\x00\x80]\x00\x00\x22")
"""A FLAC stream's name and the beginning of its first block."""
_FLAC_START_BYTES = 8
_FLAC_UNKNOWN = (1 << 36) - 1
"""Lengths of FLAC have 36 bits; none and all of them say that it was not known when the header was written."""
_SEARCHED_BYTES = 1 << 20
_BEHIND_SAMPLES = frozenset(
    {b"LIST", b"list", b"id3 ", b"ID3 ", b"bext", b"iXML", b"axml", b"cue ", b"smpl", b"inst", b"JUNK", b"junk"}
    | {b"PAD ", b"FLLR", b"PEAK", b"DISP", b"COMM", b"ANNO", b"NAME", b"AUTH", b"MARK", b"APPL", b"info", b"free"}
)
"""Chunks that programs write behind the samples."""
_LONGEST_TAG = 4096
"""Bytes that may lie behind a file of chunks without being chunks: of tags."""


class Layout(NamedTuple):
    """How a file of named chunks is laid out.

    Attributes:
      first: where its first chunk begins.
      header: `struct` format of a chunk's name and size.
      data: name of the chunk that holds the samples.
      alignment: chunks begin at multiples of this.
      whole_size: `struct` format of the whole's size in the header, place, and what it does not count.
      size_has_header: whether a chunk's size counts its header.
      preamble: bytes of the data chunk before its samples.
      streamed: data sizes from here on are placeholders.
    """

    first: int
    header: str
    data: bytes
    alignment: int
    whole_size: tuple[str, int, int] | None
    size_has_header: bool = False
    preamble: int = 0
    streamed: int = STREAMED


class Data(NamedTuple):
    """The chunk with the samples, or the like.

    Attributes:
      start: where its samples begin.
      end: where they end by the header; None where its size is a placeholder.
      size_at: place of the size.
      size_of_end: the size, as it stands in the header, if the samples end at a place.
    """

    start: int
    end: int | None
    size_at: int
    size_of_end: Callable[[int], bytes]


def layout_of(start: bytes) -> Layout | None:
    """The layout of a file that begins so, with 40 bytes or more, if it is one of chunks."""
    if start[:4] == b"RIFF" and start[8:12] == b"WAVE":
        return Layout(12, "<4sI", b"data", 2, ("<I", 4, 8))
    if start[:4] == b"RF64" and start[8:12] == b"WAVE":
        return Layout(12, "<4sI", b"data", 2, ("<Q", 20, 8))
    if start[:4] == b"RIFX" and start[8:12] == b"WAVE":
        return Layout(12, ">4sI", b"data", 2, (">I", 4, 8))
    if start[:4] == b"FORM" and start[8:12] in (b"AIFF", b"AIFC"):
        return Layout(12, ">4sI", b"SSND", 2, (">I", 4, 8), preamble=8)
    if start[:4] == b"caff":
        return Layout(8, ">4sQ", b"data", 1, None, preamble=4, streamed=_STREAMED_64)
    if start[:16] == _W64_RIFF:
        return Layout(40, "<16sQ", _W64_DATA, 8, ("<Q", 16, 0), size_has_header=True, streamed=_STREAMED_64)
    return None


def is_known_container(file: BinaryIO) -> bool:
    """Whether a file begins as WAV, W64, FLAC, Ogg, AIFF, CAF, AU, NIST or MP3 files do."""
    start = read_at(file, 0, 8)
    known = (b"RIFF", b"RIFX", b"RF64", _W64_RIFF[:4], b"fLaC", b"OggS", b"FORM", b"caff", b".snd")
    is_mp3 = start[:3] == b"ID3" or (len(start) > 1 and start[0] == 0xFF and start[1] & 0xE0 == 0xE0)
    return start[:4] in known or start == b"NIST_1A\n" or is_mp3


def is_npy(file: BinaryIO) -> bool:
    """Whether a file begins as those of `numpy.save` do."""
    return read_at(file, 0, len(MAGIC_PREFIX)) == MAGIC_PREFIX


def contents_by_header(file: BinaryIO) -> Contents:
    """What the header of such a file says of its samples, with the header mended where libsndfile needs it.

    Of any other file: all of it.

    Raises:
      AudioError: another such file lies behind it.
    """
    start, size = read_at(file, 0, 40), size_of(file)
    layout = layout_of(start)
    if layout is not None:
        whole_end = _whole_end(layout, start)
        if 40 <= whole_end < size and layout_of(read_at(file, whole_end, 40)) is not None:
            raise AudioError("several recordings in one file, of which one would be used: give them one by one")
        data = _data(file, layout, start)
        is_unfinished = data is not None and data.end is not None and _goes_on(file, layout, data, whole_end)
    else:
        data = _au_data(start) if start[:4] == b".snd" else _nist_data(file) if start[:8] == b"NIST_1A\n" else None
        is_unfinished = data is not None and data.end is not None and data.end <= data.start < size
    if data is None:
        return Contents()
    missing = 0.0 if data.end is None else max(data.end - size, 0) / max(data.end - data.start, 1)
    # libsndfile reads other files to their ends; CAF's it refuses.
    is_mended = is_unfinished or (start[:4] == b"caff" and (data.end is None or missing))
    return Contents((_mended(data, size) if is_mended else Stream(),), missing, is_unfinished)


def _goes_on(file: BinaryIO, layout: Layout, data: Data, whole_end: int) -> bool:
    """Whether samples lie behind the end that the header gives them, as a recorder leaves them that stops writing it.

    Args:
      file: one of chunks.
      layout: of its chunks.
      data: its samples, with an end.
      whole_end: where the file ends by its header.
    """
    size, end = size_of(file), max(data.end or 0, data.start)
    end += -end % layout.alignment
    inside = whole_end if end <= whole_end <= size else size
    if not _are_chunks(file, layout, end, inside):
        return True
    # Behind the whole some programs put tags of their own. What is longer was recorded.
    return size - inside >= max(TOLERATED_LOSS * (size - data.start), _LONGEST_TAG) and not _are_chunks(
        file, layout, inside, size
    )


def _are_chunks(file: BinaryIO, layout: Layout, position: int, end: int) -> bool:
    """Whether nothing but chunks, or zeros, lies there."""
    header_bytes = struct.calcsize(layout.header)
    for _ in range(_MOST_CHUNKS):
        header = read_at(file, position, header_bytes) if position + header_bytes <= end else b""
        if not any(header):
            return True
        name, chunk_bytes = struct.unpack(layout.header, header)
        position += chunk_bytes if layout.size_has_header else header_bytes + chunk_bytes
        if position > end + layout.alignment:
            return name[:4] in _BEHIND_SAMPLES  # cut
        if not name[:4].isascii() or not name[:4].decode("ascii").isprintable():
            return False
        position += -position % layout.alignment
    return True


def flac_contents(file: BinaryIO) -> Contents:
    """The streams of a FLAC file, of which libsndfile decodes the first alone."""
    size, starts, position = size_of(file), [], 0
    while position < size:
        block = read_at(file, position, _SEARCHED_BYTES)
        starts += [position + match.start() for match in _FLAC_START.finditer(block)]
        position += max(len(block) - (_FLAC_START_BYTES - 1), 1)
    if not starts:
        return Contents()
    fields = read_at(file, starts[0] + 18, 8)
    is_open = int.from_bytes(fields, "big") & _FLAC_UNKNOWN in (0, _FLAC_UNKNOWN)
    if len(starts) == 1 and not is_open:
        return Contents()
    return Contents([Stream([range(*ends)]) for ends in zip(starts, [*starts[1:], size], strict=True)])


def wav_codec(file: BinaryIO) -> tuple[int, range] | None:
    """The codec that a WAV file's `fmt ` chunk names, and where its data lie; None for other files."""
    start = read_at(file, 0, 40)
    layout = layout_of(start)
    if layout is None or layout.data != b"data" or layout.first != 12:
        return None
    format_chunk = _chunk(file, layout, b"fmt ")
    if format_chunk is None:
        return None
    content = read_at(file, format_chunk[0], 26)
    if len(content) < 16:
        return None
    order = layout.header[0]
    (codec,) = struct.unpack_from(f"{order}H", content)
    if codec == _EXTENSIBLE and len(content) == 26:
        (codec,) = struct.unpack_from(f"{order}H", content, 24)
    data, size = _data(file, layout, start), size_of(file)
    if data is None:
        return codec, range(0)
    return codec, range(data.start, size if data.end is None or data.end <= data.start else min(data.end, size))


def _mended(data: Data, size: int) -> Stream:
    field = data.size_of_end(size)
    return Stream([range(data.size_at), field, range(data.size_at + len(field), size)])


def _whole_end(layout: Layout, start: bytes) -> int:
    """Where a file that begins so ends by the size of the whole in its header; far off where it has none."""
    if layout.whole_size is None or len(start) < 40:
        return 1 << 62
    form, place, uncounted = layout.whole_size
    end = struct.unpack_from(form, start, place)[0] + uncounted
    return min(end + -end % layout.alignment, 1 << 62)


def _chunk(file: BinaryIO, layout: Layout, wanted: bytes) -> tuple[int, int, int] | None:
    """Where a chunk's content begins, its size as it is written, and where that stands."""
    position, header_bytes = layout.first, struct.calcsize(layout.header)
    for _ in range(_MOST_CHUNKS):
        header = read_at(file, position, header_bytes)
        if len(header) < header_bytes:
            break
        name, chunk_bytes = struct.unpack(layout.header, header)
        if name == wanted:
            return position + header_bytes, chunk_bytes, position + len(name)
        if chunk_bytes >= 1 << 62:
            break
        body = position if layout.size_has_header else position + header_bytes
        end = max(body + chunk_bytes, position + header_bytes)
        position = end + -end % layout.alignment
    return None


def _data(file: BinaryIO, layout: Layout, start: bytes) -> Data | None:
    found = _chunk(file, layout, layout.data)
    if found is None:
        return None
    content, chunk_bytes, size_at = found
    header_bytes = struct.calcsize(layout.header)
    form, streamed = layout.header[0] + layout.header[-1], layout.streamed
    if start[:4] == b"RF64" and start[12:16] == b"ds64" and chunk_bytes == 0xFFFFFFFF and len(start) >= 36:
        # Sizes beyond 32 bits: ds64 holds those of the file and of the samples.
        chunk_bytes, size_at, form, streamed = struct.unpack_from("<Q", start, 28)[0], 28, "<Q", _STREAMED_64
    counted_from = content - header_bytes if layout.size_has_header else content

    def size_of_end(end: int) -> bytes:
        most = (1 << 8 * struct.calcsize(form)) - 1
        return struct.pack(form, min(end - counted_from, most))

    end = None if chunk_bytes >= streamed else counted_from + chunk_bytes
    return Data(content + layout.preamble, end, size_at, size_of_end)


def _au_data(start: bytes) -> Data | None:
    if len(start) < 12:
        return None
    offset, data_bytes = struct.unpack_from(">II", start, 4)
    end = None if data_bytes >= STREAMED else offset + data_bytes
    return Data(offset, end, 8, lambda end: struct.pack(">I", min(end - offset, 0xFFFFFFFF)))


def _nist_data(file: BinaryIO) -> Data | None:
    """Of a SPHERE file, whose header is lines of names, types and values."""
    header = read_at(file, 0, 1024)
    fields = dict(re.findall(rb"^(\w+) -i (\d{1,15})\s*$", header, re.MULTILINE))
    length = re.match(rb"NIST_1A\n *(\d{1,9})\n", header)
    names = (b"sample_count", b"channel_count", b"sample_n_bytes")
    if length is None or not all(name in fields for name in names) or b"shorten" in header:
        return None
    samples, channels, sample_bytes = (int(fields[name]) for name in names)
    start = int(length[1])
    return Data(start, start + samples * channels * sample_bytes if samples else None, 0, lambda _: b"")
