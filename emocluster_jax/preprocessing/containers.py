"""What the bytes of an audio file say of its completeness, where libsndfile reads on in silence.

libsndfile takes whatever lies in a WAV file whose header promises more, and ends an Ogg stream at its last whole page.
"""

from __future__ import annotations

import os
import struct
from typing import BinaryIO

_OGG_LAST_PAGE = 0x04
_OGG_PAGE_LIMIT = 65_307
"""Bytes of the largest Ogg page (RFC 3533)."""
_STREAMED_WAV = 0x7FFFF000
"""Data sizes from here on are the placeholders of programs that write to a pipe (sox, ffmpeg)."""
_MOST_WAV_CHUNKS = 1_000
"""How far a WAV file is searched for its data, lest garbage be searched to its end."""


def is_known_container(file: BinaryIO) -> bool:
    """Whether a file begins as WAV, FLAC, Ogg, AIFF or MP3 files do."""
    start = _read_at(file, 0, 4)
    return start in (b"RIFF", b"RIFX", b"RF64", b"fLaC", b"OggS", b"FORM") or _begins_as_mp3(start)


def is_cut_short(file: BinaryIO) -> bool:
    """Whether a WAV file ends before its data chunk does, or an Ogg file before the last page of its stream."""
    start = _read_at(file, 0, 12)
    if start[:4] in (b"RIFF", b"RIFX") and start[8:] == b"WAVE":
        return _wav_is_cut_short(file, ">" if start[:4] == b"RIFX" else "<")
    return start[:4] == b"OggS" and _ogg_is_cut_short(file)


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


def _wav_is_cut_short(file: BinaryIO, byte_order: str) -> bool:
    size = file.seek(0, os.SEEK_END)
    position = 12
    for _ in range(_MOST_WAV_CHUNKS):
        header = _read_at(file, position, 8)
        if len(header) < 8:
            break
        name, chunk_bytes = struct.unpack(f"{byte_order}4sI", header)
        if name == b"data":
            return chunk_bytes < _STREAMED_WAV and position + 8 + chunk_bytes > size
        position += 8 + chunk_bytes + chunk_bytes % 2
    return False


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
