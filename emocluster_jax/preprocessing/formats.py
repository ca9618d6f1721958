"""The container and codec of files that libsndfile does not decode, recognised by their first bytes."""

from __future__ import annotations

import re
import struct
from typing import BinaryIO, NamedTuple

from emocluster_jax.errors import RecordingError
from emocluster_jax.preprocessing.containers import is_known_container, is_npy, wav_codec
from emocluster_jax.preprocessing.file_contents import read_at
from emocluster_jax.preprocessing.mpeg_frames import id3_bytes

_SEARCHED_BYTES = 1 << 20
"""How much of a file is searched for the name of its codec."""
_MOST_BOXES = 1_000
_WAV_CODECS = {
    0x0014: "G.723",
    0x0022: "TrueSpeech",
    0x0040: "G.721",
    0x0042: "G.723.1",
    0x0045: "G.726",
    0x0050: "MPEG layer 1 or 2",
    0x0055: "MP3",
    0x0064: "G.726",
    0x0065: "G.722",
    0x0083: "G.729",
    0x00FF: "AAC",
    0x0160: "WMA 1",
    0x0161: "WMA 2",
    0x0162: "WMA Pro",
    0x0163: "WMA Lossless",
    0x028F: "G.722",
    0x0270: "ATRAC3",
    0x1600: "AAC",
    0x1602: "AAC",
    0x2000: "AC-3",
    0x706D: "AAC",
    0xA106: "AAC",
    0xA109: "Speex",
    0xF1AC: "FLAC",
}
"""By the tag in `fmt ` chunks (RFC 2361 and the registry that followed it), without those that libsndfile decodes."""
_MP4_CODECS = {
    "mp4a": "AAC",
    "alac": "ALAC",
    "samr": "AMR",
    "sawb": "AMR-WB",
    "ac-3": "AC-3",
    "ec-3": "E-AC-3",
    "Opus": "Opus",
    "fLaC": "FLAC",
    ".mp3": "MP3",
    "sowt": "PCM",
    "twos": "PCM",
    "lpcm": "PCM",
}
_MATROSKA_CODECS = {"A_MPEG/L3": "MP3", "A_AAC": "AAC", "A_PCM/INT/LIT": "PCM", "A_FLAC": "FLAC", "A_AC3": "AC-3"}
_CAF_CODECS = {"aac ": "AAC", "alac": "ALAC", ".mp3": "MP3", "opus": "Opus", "ilbc": "iLBC", "samr": "AMR"}
_OGG_CODECS = {b"Speex   ": "Speex", b"\x7fFLAC": "FLAC"}
_ASF = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")
_ASF_AUDIO = bytes.fromhex("409e69f84d5bcf11a8fd00805f5c442b")
_ASF_CODEC_AT = 54
"""Bytes from the type of an ASF stream to the tag of its codec."""
_STARTS = (
    (b"#!AMR-WB\n", "AMR-WB", "amr"),
    (b"#!AMR\n", "AMR", "amr"),
    (b"\x0b\x77", "AC-3", "ac3"),
    (b"wvpk", "WavPack", "wv"),
    (b"TTA1", "True Audio", "tta"),
    (b"MAC ", "Monkey's Audio", "ape"),
    (b"MPCK", "Musepack", "mpc8"),
    (b"MP+", "Musepack", "mpc"),
    (b".RMF", "RealMedia", "rm"),
    (b"FLV\x01", "Flash video", "flv"),
    (b"DSD ", "DSD", "dsf"),
)
"""First bytes, name, and what FFmpeg calls the format."""
_POINTERS = (
    (b"version https://git-lfs.github.com/spec/", "a pointer of Git LFS in place of the recording: git lfs pull"),
    (b"/annex/objects/", "a pointer of git-annex in place of the recording: git annex get"),
)


class Format(NamedTuple):
    """A format that FFmpeg decodes.

    Attributes:
      name: codec and container, as shown to people.
      ffmpeg_name: FFmpeg's name of the container.
    """

    name: str
    ffmpeg_name: str


def format_of(file: BinaryIO) -> Format | None:
    """The format of a file that libsndfile does not open; None if it is unknown, or one that libsndfile knows."""
    start = read_at(file, 0, 64)
    for magic, name, ffmpeg_name in _STARTS:
        if start.startswith(magic):
            return Format(name, ffmpeg_name)
    if start[4:8] in (b"ftyp", b"moov", b"mdat", b"wide"):
        return Format(f"{_mp4_codec(file) or 'audio'} in MP4", "mp4")
    if start[:4] == b"\x1a\x45\xdf\xa3":
        kind = "WebM" if b"webm" in start else "Matroska"
        return Format(f"{_matroska_codec(file) or 'audio'} in {kind}", "matroska")
    if start[:16] == _ASF:
        return Format(f"{_asf_codec(file)} in ASF", "asf")
    if start[:4] == b"RIFF" and start[8:12] == b"AVI ":
        return Format("AVI", "avi")
    if start[:4] == b"caff" and start[8:12] == b"desc":
        codec = start[28:32].decode("latin-1")
        return Format(f"{_CAF_CODECS[codec]} in CAF", "caf") if codec in _CAF_CODECS else None
    if start[:4] == b"OggS":
        return _ogg_format(file)
    adts = read_at(file, id3_bytes(start), 2)
    if len(adts) == 2 and adts[0] == 0xFF and adts[1] & 0xF6 == 0xF0:
        return Format("AAC (ADTS)", "aac")
    if start[:8] == b"NIST_1A\n" and b"shorten" in read_at(file, 0, 1024):
        return Format("Shorten in SPHERE", "nistsphere")
    tag = wav_codec(file)
    return Format(f"{_WAV_CODECS[tag[0]]} in WAV", "wav") if tag is not None and tag[0] in _WAV_CODECS else None


def what_is_wrong(file: BinaryIO) -> RecordingError:
    """Why a file cannot be decoded at all."""
    if is_npy(file):
        return RecordingError("features (.npy), and audio is expected")
    start = read_at(file, 0, 64)
    for pointer, reason in _POINTERS:
        if start.startswith(pointer):
            return RecordingError(reason)
    return RecordingError("its header is damaged or truncated" if is_known_container(file) else "not audio")


def _mp4_codec(file: BinaryIO) -> str | None:
    """The codec of the first audio track in an MP4 file, which consists of boxes (ISO/IEC 14496-12)."""
    position = 0
    for _ in range(_MOST_BOXES):
        header = read_at(file, position, 16)
        if len(header) < 8:
            break
        size, name = struct.unpack_from(">I4s", header)
        if size == 1 and len(header) == 16:
            (size,) = struct.unpack_from(">Q", header, 8)
        if name == b"moov":
            # Each track's first sample description, which follows a version and a count.
            movie = read_at(file, position, min(size, _SEARCHED_BYTES) if size else _SEARCHED_BYTES)
            codecs = [match[1].decode("latin-1") for match in re.finditer(rb"stsd.{12}([ -~]{4})", movie, re.DOTALL)]
            return next((_MP4_CODECS[codec] for codec in codecs if codec in _MP4_CODECS), None)
        if size < 8 or position + size >= 1 << 62:
            break
        position += size
    return None


def _matroska_codec(file: BinaryIO) -> str | None:
    # The element's number, the length of the codec's name in a byte, and the name.
    found = re.search(rb"\x86([\x83-\xa0])(A_[A-Z0-9_/]+)", read_at(file, 0, _SEARCHED_BYTES))
    if found is None:
        return None
    codec = found[2][: found[1][0] & 0x7F].decode("ascii")
    return _MATROSKA_CODECS.get(codec, codec[2:].split("/")[0].capitalize())


def _asf_codec(file: BinaryIO) -> str:
    head = read_at(file, 0, 1 << 16)
    place = head.find(_ASF_AUDIO)
    tag = head[place + _ASF_CODEC_AT : place + _ASF_CODEC_AT + 2] if place >= 0 else b""
    return _WAV_CODECS.get(int.from_bytes(tag, "little"), "audio")


def _ogg_format(file: BinaryIO) -> Format | None:
    start = read_at(file, 0, 512)
    packet = start[27 + start[26] :] if len(start) > 26 else b""
    codec = next((name for magic, name in _OGG_CODECS.items() if packet.startswith(magic)), None)
    return None if codec is None else Format(f"{codec} in Ogg", "ogg")
