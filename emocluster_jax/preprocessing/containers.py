"""What the bytes of an audio file say of its completeness, where libsndfile reads on in silence.

libsndfile takes whatever lies in a WAV, RF64, W64, AIFF or AU file whose header promises more, and ends an Ogg stream
at its last whole page.
"""

from __future__ import annotations

import os
import struct
from typing import BinaryIO, NamedTuple

from numpy.lib.format import MAGIC_PREFIX

_OGG_LAST_PAGE = 0x04
_OGG_PAGE_LIMIT = 65_307
"""Bytes of the largest Ogg page (RFC 3533)."""
_STREAMED = 0x7F000000
"""32-bit data sizes from here on are the placeholders of programs that write to a pipe (sox, ffmpeg)."""
_STREAMED_64 = (1 << 63) - 1
"""The same for 64-bit sizes."""
_MOST_CHUNKS = 1_000
"""How far a file is searched for its data, lest garbage be searched to its end."""
_W64_RIFF = b"riff\x2e\x91\xcf\x11\xa5\xd6\x28\xdb\x04\xc1\x00\x00"
_W64_DATA = b"data\xf3\xac\xd3\x11\x8c\xd1\x00\xc0\x4f\x8e\xdb\x8a"


class _Chunks(NamedTuple):
    """How a file of named chunks is laid out.

    Attributes:
      first: where its first chunk begins.
      header: `struct` format of a chunk's name and size.
      data: name of the chunk that holds the samples.
      alignment: chunks begin at multiples of this.
      size_has_header: whether a chunk's size counts its header.
      streamed: data sizes from here on are placeholders.
    """

    first: int
    header: str
    data: bytes
    alignment: int
    size_has_header: bool = False
    streamed: int = _STREAMED


def is_known_container(file: BinaryIO) -> bool:
    """Whether a file begins as WAV, W64, FLAC, Ogg, AIFF, AU or MP3 files do."""
    start = _read_at(file, 0, 4)
    known = (b"RIFF", b"RIFX", b"RF64", _W64_RIFF[:4], b"fLaC", b"OggS", b"FORM", b".snd")
    return start in known or _begins_as_mp3(start)


def is_npy(file: BinaryIO) -> bool:
    """Whether a file begins as those of `numpy.save` do."""
    return _read_at(file, 0, len(MAGIC_PREFIX)) == MAGIC_PREFIX


def is_cut_short(file: BinaryIO) -> bool:
    """Whether a file ends before its samples do, by its header, or an Ogg file before the last page of its stream."""
    start = _read_at(file, 0, 40)
    size = file.seek(0, os.SEEK_END)
    if start[:4] == b"OggS":
        return _ogg_is_cut_short(file)
    if start[:4] == b".snd" and len(start) >= 12:
        offset, data_bytes = struct.unpack(">II", start[4:12])
        return data_bytes < _STREAMED and offset + data_bytes > size
    chunks = _chunks(start)
    return chunks is not None and _data_end(file, chunks, start) > size


def declares_length(file: BinaryIO) -> bool:
    """Whether the length that libsndfile reports is written in the file.

    Of an MP3 file without a Xing, Info or VBRI header it is an estimate from the first frame's bit rate.
    """
    start = _read_at(file, 0, 10)
    if not _begins_as_mp3(start):
        return True
    tag_bytes = 0
    if start[:3] == b"ID3":
        # ID3v2 sizes hold seven bits a byte.
        tag_bytes = 10 + sum((byte & 0x7F) << shift for byte, shift in zip(start[6:10], (21, 14, 7, 0), strict=False))
    head = _read_at(file, tag_bytes, 4096)
    return any(name in head for name in (b"Xing", b"Info", b"VBRI"))


def _begins_as_mp3(start: bytes) -> bool:
    return start[:3] == b"ID3" or (len(start) > 1 and start[0] == 0xFF and start[1] & 0xE0 == 0xE0)


def _chunks(start: bytes) -> _Chunks | None:
    """The layout of a file that begins so, if it is one of chunks."""
    if start[:4] in (b"RIFF", b"RF64") and start[8:12] == b"WAVE":
        return _Chunks(12, "<4sI", b"data", 2)
    if start[:4] == b"RIFX" and start[8:12] == b"WAVE":
        return _Chunks(12, ">4sI", b"data", 2)
    if start[:4] == b"FORM" and start[8:12] in (b"AIFF", b"AIFC"):
        return _Chunks(12, ">4sI", b"SSND", 2)
    if start[:16] == _W64_RIFF:
        return _Chunks(40, "<16sQ", _W64_DATA, 8, size_has_header=True, streamed=_STREAMED_64)
    return None


def _data_end(file: BinaryIO, chunks: _Chunks, start: bytes) -> int:
    """Where the chunk with the samples ends by its size; 0 where there is none, or its size is a placeholder."""
    position, header_bytes = chunks.first, struct.calcsize(chunks.header)
    for _ in range(_MOST_CHUNKS):
        header = _read_at(file, position, header_bytes)
        if len(header) < header_bytes:
            break
        name, chunk_bytes = struct.unpack(chunks.header, header)
        body = position if chunks.size_has_header else position + header_bytes
        if name == chunks.data:
            streamed = chunks.streamed
            if start[:4] == b"RF64" and start[12:16] == b"ds64" and chunk_bytes == 0xFFFFFFFF:
                # Sizes beyond 32 bits: ds64 holds those of the file and of the samples.
                chunk_bytes, streamed = struct.unpack("<Q", start[28:36])[0], _STREAMED_64
            return body + chunk_bytes if chunk_bytes < streamed else 0
        if chunk_bytes >= 1 << 62:
            break
        end = max(body + chunk_bytes, position + header_bytes)
        position = end + -end % chunks.alignment
    return 0


def _ogg_is_cut_short(file: BinaryIO) -> bool:
    size = file.seek(0, os.SEEK_END)
    tail = _read_at(file, max(0, size - _OGG_PAGE_LIMIT), _OGG_PAGE_LIMIT)
    page = tail.rfind(b"OggS")
    header = tail[page : page + 27]
    if page < 0 or len(header) < 27:
        return True
    segments = tail[page + 27 : page + 27 + header[26]]
    complete = len(segments) == header[26] and page + 27 + header[26] + sum(segments) <= len(tail)
    return not (complete and header[5] & _OGG_LAST_PAGE)


def _read_at(file: BinaryIO, position: int, count: int) -> bytes:
    file.seek(position)
    return file.read(count)
