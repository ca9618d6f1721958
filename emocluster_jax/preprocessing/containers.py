"""What the bytes of an audio file say of its completeness, where libsndfile reads on in silence.

libsndfile takes whatever lies in a WAV file whose header promises more, and ends an Ogg stream at its last whole page.
"""

from __future__ import annotations

import struct
from pathlib import Path

_OGG_LAST_PAGE = 0x04
_OGG_PAGE_LIMIT = 65_307
"""Bytes of the largest Ogg page (RFC 3533)."""
_STREAMED_WAV = 0x7FFFF000
"""Data sizes from here on are the placeholders of programs that write to a pipe (sox, ffmpeg)."""


def is_known_container(path: Path) -> bool:
    """Whether the file begins as WAV, FLAC, Ogg, AIFF or MP3 files do."""
    start = _start(path, 4)
    return start in (b"RIFF", b"RIFX", b"RF64", b"fLaC", b"OggS", b"FORM") or _begins_as_mp3(start)


def is_cut_short(path: Path) -> bool:
    """Whether a WAV file ends before its data chunk does, or an Ogg file before the last page of its stream."""
    start = _start(path, 12)
    if start[:4] in (b"RIFF", b"RIFX") and start[8:] == b"WAVE":
        return _wav_is_cut_short(path, ">" if start[:4] == b"RIFX" else "<")
    return start[:4] == b"OggS" and _ogg_is_cut_short(path)


def declares_length(path: Path) -> bool:
    """Whether the length that libsndfile reports is written in the file.

    Of an MP3 file without a Xing, Info or VBRI header it is an estimate from the first frame's bit rate.
    """
    start = _start(path, 10)
    if not _begins_as_mp3(start):
        return True
    tag_bytes = 0
    if start[:3] == b"ID3":
        # ID3v2 sizes hold seven bits a byte.
        tag_bytes = 10 + sum((byte & 0x7F) << shift for byte, shift in zip(start[6:10], (21, 14, 7, 0), strict=False))
    with path.open("rb") as file:
        file.seek(tag_bytes)
        head = file.read(4096)
    return any(name in head for name in (b"Xing", b"Info", b"VBRI"))


def _begins_as_mp3(start: bytes) -> bool:
    return start[:3] == b"ID3" or (len(start) > 1 and start[0] == 0xFF and start[1] & 0xE0 == 0xE0)


def _wav_is_cut_short(path: Path, byte_order: str) -> bool:
    size = path.stat().st_size
    with path.open("rb") as file:
        position = 12
        while position + 8 <= size:
            file.seek(position)
            name, chunk_bytes = struct.unpack(f"{byte_order}4sI", file.read(8))
            if name == b"data":
                return chunk_bytes < _STREAMED_WAV and position + 8 + chunk_bytes > size
            position += 8 + chunk_bytes + chunk_bytes % 2
    return False


def _ogg_is_cut_short(path: Path) -> bool:
    size = path.stat().st_size
    with path.open("rb") as file:
        file.seek(max(0, size - _OGG_PAGE_LIMIT))
        tail = file.read()
    page = tail.rfind(b"OggS")
    header = tail[page : page + 27]
    if page < 0 or len(header) < 27:
        return True
    segments = tail[page + 27 : page + 27 + header[26]]
    complete = len(segments) == header[26] and page + 27 + header[26] + sum(segments) <= len(tail)
    return not (complete and header[5] & _OGG_LAST_PAGE)


def _start(path: Path, count: int) -> bytes:
    with path.open("rb") as file:
        return file.read(count)
