"""What libsndfile does not decode: its format, by its first bytes, and its samples, by FFmpeg and PyAV (extra `av`)."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

import numpy as np

from emocluster_jax.errors import RecordingError
from emocluster_jax.preprocessing.containers import is_known_container, is_npy, wav_codec
from emocluster_jax.preprocessing.file_contents import BLOCK_SAMPLES, Blocks, read_at, size_of
from emocluster_jax.preprocessing.mpeg_frames import id3_bytes

if TYPE_CHECKING:
    import av.error
    from av.container import InputContainer

_SEARCHED_BYTES = 1 << 20
"""How much of a file is searched for the name of its codec."""
_WAV_CODECS = {
    0x0014: "G.723", 0x0022: "TrueSpeech", 0x0040: "G.721", 0x0042: "G.723.1", 0x0045: "G.726",
    0x0050: "MPEG layer 1 or 2", 0x0055: "MP3", 0x0064: "G.726", 0x0065: "G.722", 0x0083: "G.729", 0x00FF: "AAC",
    0x0160: "WMA 1", 0x0161: "WMA 2", 0x0162: "WMA Pro", 0x0163: "WMA Lossless", 0x028F: "G.722", 0x0270: "ATRAC3",
    0x1600: "AAC", 0x1602: "AAC", 0x2000: "AC-3", 0x706D: "AAC", 0xA106: "AAC", 0xA109: "Speex", 0xF1AC: "FLAC",
}  # fmt: skip
"""By the tag in `fmt ` chunks (RFC 2361 and the registry that followed it), without those that libsndfile decodes."""
_MP4_CODECS = {
    b"mp4a": "AAC", b"alac": "ALAC", b"samr": "AMR", b"sawb": "AMR-WB", b"ac-3": "AC-3", b"ec-3": "E-AC-3",
    b"Opus": "Opus", b"fLaC": "FLAC", b".mp3": "MP3", b"sowt": "PCM", b"twos": "PCM", b"lpcm": "PCM",
}  # fmt: skip
_MATROSKA_CODECS = {"A_MPEG/L3": "MP3", "A_AAC": "AAC", "A_PCM/INT/LIT": "PCM", "A_FLAC": "FLAC", "A_AC3": "AC-3"}
_CAF_CODECS = {b"aac ": "AAC", b"alac": "ALAC", b".mp3": "MP3", b"opus": "Opus", b"ilbc": "iLBC", b"samr": "AMR"}
_OGG_CODECS = {b"Speex   ": "Speex", b"\x7fFLAC": "FLAC"}
_ASF = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")
_ASF_AUDIO = bytes.fromhex("409e69f84d5bcf11a8fd00805f5c442b")
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
_DURATIONS = ("mp4", "matroska", "asf", "avi", "wv", "tta")
"""FFmpeg's names of formats that hold a duration; for others FFmpeg estimates it."""
_ROUNDED_S = 0.1
"""Containers round durations, and include what encoders add at both ends."""
_FAILS = "{}: FFmpeg cannot decode it, or it is truncated or damaged"


class Format(NamedTuple):
    """A format that FFmpeg decodes."""

    name: str  # codec and container, as shown to people
    ffmpeg_name: str  # FFmpeg's name of the container


def is_installed() -> bool:
    return importlib.util.find_spec("av") is not None


@contextmanager
def av_decoded(file: BinaryIO) -> Iterator[tuple[int, Blocks]]:
    """Sample rate and blocks of the first audio track of an open file that libsndfile does not open.

    FFmpeg tries no other format than the file's: some would make it open other files and addresses.

    Raises:
      RecordingError: the format is unknown, PyAV is not installed, or the file is damaged or has no audio track.
    """
    form = _format_of(file)
    if form is None:
        raise _what_is_wrong(file)
    if not is_installed():
        raise RecordingError(f'{form.name} needs pip install "emocluster_jax[av]", or ffmpeg -i IN OUT.wav')
    import av.error

    file.seek(0)
    try:
        container = av.open(file, "r", format=form.ffmpeg_name, metadata_errors="replace")
    except (av.error.FFmpegError, ValueError):
        raise RecordingError(_FAILS.format(form.name)) from None
    with container:
        if not container.streams.audio:
            raise RecordingError(f"{form.name}: there is no sound in it")
        stream = container.streams.audio[0]
        if not stream.rate or not stream.codec_context.channels:
            raise RecordingError(_FAILS.format(form.name))
        yield stream.rate, _blocks(container, stream, form)


def _format_of(file: BinaryIO) -> Format | None:
    """The format of a file; None if it is unknown, or one that libsndfile knows."""
    start = read_at(file, 0, 64)
    for magic, name, ffmpeg_name in _STARTS:
        if start.startswith(magic):
            return Format(name, ffmpeg_name)
    if start[4:8] in (b"ftyp", b"moov", b"mdat", b"wide"):
        return Format(f"{_mp4_codec(file)} in MP4", "mp4")
    if start[:4] == b"\x1a\x45\xdf\xa3":
        kind = "WebM" if b"webm" in start else "Matroska"
        return Format(f"{_matroska_codec(file)} in {kind}", "matroska")
    if start[:16] == _ASF:
        return Format(f"{_asf_codec(file)} in ASF", "asf")
    if start[:4] == b"RIFF" and start[8:12] == b"AVI ":
        return Format("AVI", "avi")
    if start[:4] == b"caff" and start[8:12] == b"desc":
        codec = _CAF_CODECS.get(start[28:32])
        return None if codec is None else Format(f"{codec} in CAF", "caf")
    if start[:4] == b"OggS":
        head = read_at(file, 0, 512)
        codec = next((name for magic, name in _OGG_CODECS.items() if head[27 + start[26] :].startswith(magic)), None)
        return None if codec is None else Format(f"{codec} in Ogg", "ogg")
    adts = read_at(file, id3_bytes(start), 2)
    if len(adts) == 2 and adts[0] == 0xFF and adts[1] & 0xF6 == 0xF0:
        return Format("AAC (ADTS)", "aac")
    if start[:8] == b"NIST_1A\n" and b"shorten" in read_at(file, 0, 1024):
        return Format("Shorten in SPHERE", "nistsphere")
    tag = wav_codec(file)
    return Format(f"{_WAV_CODECS[tag[0]]} in WAV", "wav") if tag is not None and tag[0] in _WAV_CODECS else None


def _what_is_wrong(file: BinaryIO) -> RecordingError:
    if is_npy(file):
        return RecordingError("features (.npy), and audio is expected")
    start = read_at(file, 0, 64)
    for pointer, reason in _POINTERS:
        if start.startswith(pointer):
            return RecordingError(reason)
    return RecordingError("its header is damaged or truncated" if is_known_container(file) else "not audio")


def _mp4_codec(file: BinaryIO) -> str:
    """The codec of the first audio track, by the tables of contents (ISO/IEC 14496-12), which begin or end a file."""
    searched = read_at(file, 0, _SEARCHED_BYTES)
    searched += read_at(file, max(size_of(file) - _SEARCHED_BYTES, 0), _SEARCHED_BYTES)
    # Each track's first sample description, which follows a version and a count.
    codecs = (_MP4_CODECS.get(match[1]) for match in re.finditer(rb"stsd.{12}([ -~]{4})", searched, re.DOTALL))
    return next(filter(None, codecs), "audio")


def _matroska_codec(file: BinaryIO) -> str:
    # The element's number, the length of the codec's name in a byte, and the name.
    found = re.search(rb"\x86([\x83-\xa0])(A_[A-Z0-9_/]+)", read_at(file, 0, _SEARCHED_BYTES))
    if found is None:
        return "audio"
    codec = found[2][: found[1][0] & 0x7F].decode("ascii")
    return _MATROSKA_CODECS.get(codec, codec[2:].split("/")[0].capitalize())


def _asf_codec(file: BinaryIO) -> str:
    head = read_at(file, 0, 1 << 16)
    place = head.find(_ASF_AUDIO)
    tag = head[place + 54 : place + 56] if place >= 0 else b""  # counted from the type of the stream
    return _WAV_CODECS.get(int.from_bytes(tag, "little"), "audio")


def _blocks(container: InputContainer, stream: av.AudioStream, form: Format) -> Blocks:
    import av.error

    # Turns samples of any type into float32 from -1 to 1, one row per channel; rate and channels stay as they are.
    resampler = av.AudioResampler(format="fltp")
    rate, channels = stream.rate, stream.codec_context.channels
    held: list[np.ndarray] = []
    read = packets = 0
    try:
        for packet in container.demux(stream):
            packets += packet.size > 0
            for frame in packet.decode():
                if (frame.sample_rate, len(frame.layout.channels)) != (rate, channels):
                    raise RecordingError(f"{form.name}: the sample rate or the number of channels changes in it")
                held += [part.to_ndarray().T for part in resampler.resample(frame)]
                read += frame.samples
                if sum(map(len, held)) * channels >= BLOCK_SAMPLES:
                    yield np.concatenate(held)
                    held = []
    except av.error.FFmpegError:
        raise RecordingError(_FAILS.format(form.name)) from None
    if held:
        yield np.concatenate(held)
    return _missing(container, stream, form, packets, read / rate)


def _missing(container: InputContainer, stream: av.AudioStream, form: Format, packets: int, seconds: float) -> float:
    """Share of what the container promises that was not decoded."""
    if form.ffmpeg_name == "mp4" and stream.frames:
        return max(stream.frames - packets, 0) / stream.frames
    promised = (container.duration or 0) / 1_000_000 if form.ffmpeg_name in _DURATIONS else 0.0
    return max(promised - seconds, 0) / promised if promised > seconds + _ROUNDED_S else 0.0
