"""Recordings that are damaged, absurd or in disguise: some 300 small files, the same for the same seed.

`write_hostile_recordings` says of each what has to become of it: "bad" (left out, with a reason), "good" (used, however
odd it looks), or "either" (random damage, which a decoder may or may not survive).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Literal

import numpy as np
import soundfile

from small_models import noise

Outcome = Literal["bad", "good", "either"]

RATE = 16_000
CONTAINERS: dict[str, tuple[str, str]] = {
    "pcm16.wav": ("WAV", "PCM_16"),
    "pcm24.wav": ("WAV", "PCM_24"),
    "float.wav": ("WAV", "FLOAT"),
    "adpcm.wav": ("WAV", "IMA_ADPCM"),
    "extensible.wav": ("WAVEX", "PCM_16"),
    "rf64.wav": ("RF64", "PCM_16"),
    "w64.wav": ("W64", "PCM_16"),
    "pcm16.aiff": ("AIFF", "PCM_16"),
    "float.aiff": ("AIFF", "FLOAT"),
    "pcm16.au": ("AU", "PCM_16"),
    "pcm16.flac": ("FLAC", "PCM_16"),
    "pcm24.flac": ("FLAC", "PCM_24"),
    "vorbis.ogg": ("OGG", "VORBIS"),
    "opus.opus": ("OGG", "OPUS"),
    "layer3.mp3": ("MP3", "MPEG_LAYER_III"),
}
"""What libsndfile calls the container and the encoding of a file name's ending."""


def write_hostile_recordings(folder: Path, seed: int = 0) -> dict[str, Outcome]:
    """Writes the files into a new folder; returns what has to become of each, by its name."""
    folder.mkdir(parents=True)
    outcomes: dict[str, Outcome] = {}
    for name, content, outcome in _recordings(np.random.default_rng(seed)):
        assert name not in outcomes
        (folder / name).write_bytes(content)
        outcomes[name] = outcome
    return outcomes


def encoded(ending: str, signal: np.ndarray | None = None, rate: int = RATE, subtype: str | None = None) -> bytes:
    """A whole file of one of `CONTAINERS`."""
    container, usual = CONTAINERS[ending]
    file = BytesIO()
    # Tenths of a second suffice, and make an MP3 file of several frames.
    soundfile.write(file, noise(0.3, rate) if signal is None else signal, rate, subtype or usual, format=container)
    return file.getvalue()


def _recordings(random: np.random.Generator) -> Iterator[tuple[str, bytes, Outcome]]:
    whole = {ending: encoded(ending) for ending in CONTAINERS}
    yield from ((f"whole-{ending}", content, "good") for ending, content in whole.items())
    yield from _cut(whole, random)
    yield from _scrambled(whole, random)
    yield from _wrong_fields(whole)
    yield from _endless(whole)
    yield from _bad_samples()
    yield from _short_and_disguised(whole, random)


def _cut(whole: dict[str, bytes], random: np.random.Generator) -> Iterator[tuple[str, bytes, Outcome]]:
    for ending, content in whole.items():
        for keep in {*random.integers(1, len(content), 8), 1, 12, len(content) - 1}:
            # Less than 1 % is missing of samples of a fixed size; of a compressed file it is a whole frame or page.
            is_nearly_whole = keep > 0.99 * len(content) and ending.endswith((".wav", ".aiff", ".au"))
            outcome: Outcome = "good" if is_nearly_whole else "bad"
            yield f"cut-{keep}-{ending}", content[:keep], outcome


def _scrambled(whole: dict[str, bytes], random: np.random.Generator) -> Iterator[tuple[str, bytes, Outcome]]:
    for ending, content in whole.items():
        for i in range(4):
            head = bytearray(content)
            for position in random.integers(4, min(80, len(content)), 3):
                head[position] = random.integers(256)
            yield f"head-{i}-{ending}", bytes(head), "either"
        for i in range(2):
            body = bytearray(content)
            for position in random.integers(len(content) // 4, len(content), 20):
                body[position] ^= 1 << random.integers(8)
            yield f"body-{i}-{ending}", bytes(body), "either"


def _wrong_fields(whole: dict[str, bytes]) -> Iterator[tuple[str, bytes, Outcome]]:
    wav, aiff, au = whole["pcm16.wav"], whole["pcm16.aiff"], whole["pcm16.au"]
    for name, position, form, value, outcome in (
        ("format-0", 20, "<H", 0, "bad"),
        ("format-unknown", 20, "<H", 0xBEEF, "bad"),
        ("channels-0", 22, "<H", 0, "bad"),
        ("channels-1025", 22, "<H", 1025, "bad"),
        ("channels-65535", 22, "<H", 0xFFFF, "bad"),
        ("rate-0", 24, "<I", 0, "bad"),
        ("rate-1", 24, "<I", 1, "bad"),
        ("rate-999", 24, "<I", 999, "bad"),
        ("rate-1000000", 24, "<I", 1_000_000, "bad"),
        ("rate-negative", 24, "<i", -16_000, "bad"),
        ("align-0", 32, "<H", 0, "either"),
        ("bits-0", 34, "<H", 0, "either"),
        ("bits-7", 34, "<H", 7, "either"),
        ("bits-65", 34, "<H", 65, "bad"),
        ("format-size-0", 16, "<I", 0, "bad"),
        ("format-size-4-GiB", 16, "<I", 0xFFFFFFF0, "bad"),
        ("size-0", 4, "<I", 0, "either"),
    ):
        yield f"field-{name}.wav", _patched(wav, position, form, value), outcome
    yield "field-no-format.wav", wav[:12] + wav[36:], "bad"
    yield "field-no-data.wav", wav[:36], "bad"
    yield "field-many-chunks.wav", wav[:36] + b"junk\0\0\0\0" * 5_000 + wav[36:], "either"
    common = aiff.index(b"COMM") + 8
    for name, position, form, value in (
        ("channels-0", common, ">H", 0),
        ("channels-65535", common, ">H", 0xFFFF),
        ("bits-99", common + 6, ">H", 99),
        ("rate-0", common + 8, ">HQ", (0, 0)),
        ("rate-infinite", common + 8, ">HQ", (0x7FFF, 0)),
        ("rate-negative", common + 8, ">HQ", (0xC00C, 0xFA00000000000000)),
    ):
        yield f"field-{name}.aiff", _patched(aiff, position, form, value), "bad"
    for name, position, value in (
        ("offset-4-GiB", 4, 0xFFFFFFF0),
        ("encoding-99", 12, 99),
        ("rate-0", 16, 0),
        ("rate-1", 16, 1),
        ("channels-0", 20, 0),
        ("channels-4-billion", 20, 0xFFFFFFFF),
    ):
        yield f"field-{name}.au", _patched(au, position, ">I", value), "bad"
    flac = whole["pcm16.flac"]
    for name, change in (("rate-0", lambda fields: fields & ~(0xFFFFF << 44)), ("channels-8", lambda f: f | 7 << 41)):
        fields = int.from_bytes(flac[18:26], "big")
        yield f"field-{name}.flac", flac[:18] + change(fields).to_bytes(8, "big") + flac[26:], "either"
    ogg = whole["vorbis.ogg"]
    identification = ogg.index(b"\x01vorbis") + 7
    # The page's checksum no longer fits either.
    yield "field-channels-0.ogg", _patched(ogg, identification + 4, "<B", 0), "bad"
    yield "field-rate-0.ogg", _patched(ogg, identification + 5, "<I", 0), "bad"
    for rate in (1, 900, 800_000, 2**31 - 1):
        yield f"rate-{rate}.wav", encoded("pcm16.wav", noise(0.3), rate), "bad"


def _endless(whole: dict[str, bytes]) -> Iterator[tuple[str, bytes, Outcome]]:
    """Headers that claim far more samples than there are."""
    wav, rf64, w64, aiff, au, flac = (
        whole[e] for e in ("pcm16.wav", "rf64.wav", "w64.wav", "pcm16.aiff", "pcm16.au", "pcm16.flac")
    )
    for claimed in (1 << 20, 1 << 30):
        yield f"claims-{claimed}.wav", _patched(wav, wav.index(b"data") + 4, "<I", claimed), "bad"
        yield f"claims-{claimed}.aiff", _patched(aiff, aiff.index(b"SSND") + 4, ">I", claimed), "bad"
        yield f"claims-{claimed}.au", _patched(au, 8, ">I", claimed), "bad"
    # What programs that write to a pipe put there.
    yield "claims-4-GiB.wav", _patched(wav, wav.index(b"data") + 4, "<I", 0xFFFFFFFF), "good"
    yield "claims-4-GiB.au", _patched(au, 8, ">I", 0xFFFFFFFF), "good"
    ds64 = rf64.index(b"ds64") + 8
    data = w64.index(b"data\xf3\xac") + 16
    for bits in (24, 40, 62):
        claims = _patched(rf64, ds64 + 8, "<Q", 1 << bits)
        yield f"claims-2^{bits}-rf64.wav", _patched(claims, ds64 + 16, "<Q", 1 << bits - 1), "bad"
        yield f"claims-2^{bits}-w64.wav", _patched(w64, data, "<Q", 1 << bits), "bad"
    fields = int.from_bytes(flac[18:26], "big")
    for claimed in (1 << 20, 1 << 35, (1 << 36) - 2):
        yield f"claims-{claimed}.flac", flac[:18] + (fields >> 36 << 36 | claimed).to_bytes(8, "big") + flac[26:], "bad"


def _bad_samples() -> Iterator[tuple[str, bytes, Outcome]]:
    for ending in ("float.wav", "float.aiff"):
        for value in (np.nan, np.inf, -np.inf):
            for position in (0, 2_000, -1):
                signal = noise(0.3)
                signal[position] = value
                yield f"samples-{value}-at-{position}-{ending}", encoded(ending, signal), "bad"
    silent = np.zeros(3_000, np.float32)
    for ending in ("pcm16.wav", "float.wav", "pcm24.flac", "pcm16.aiff"):
        yield f"samples-silent-{ending}", encoded(ending, silent), "bad"
    yield "samples-1e300.wav", encoded("float.wav", noise(0.3).astype(np.float64) * 1e300, subtype="DOUBLE"), "bad"
    yield "samples-1e38-stereo.wav", encoded("float.wav", np.full((3_000, 2), 3e38, np.float32)), "bad"
    yield "samples-1e-30.wav", encoded("float.wav", noise(0.3) * np.float32(1e-30)), "good"
    yield "samples-1e-44.wav", encoded("float.wav", noise(0.3) * np.float32(1e-44)), "either"
    yield "samples-cancel.wav", encoded("float.wav", np.stack([noise(0.3), -noise(0.3)], axis=1)), "bad"
    yield "samples-24-bit-6-channels.wav", encoded("pcm24.wav", np.repeat(noise(0.3)[:, None], 6, axis=1)), "good"
    yield "samples-1024-channels.wav", encoded("pcm16.wav", np.repeat(noise(0.01)[:, None], 1024, axis=1)), "good"


def _short_and_disguised(whole: dict[str, bytes], random: np.random.Generator) -> Iterator[tuple[str, bytes, Outcome]]:
    for ending in ("pcm16.wav", "float.wav", "pcm16.flac", "pcm16.aiff", "rf64.wav", "w64.wav", "vorbis.ogg"):
        yield f"short-0-{ending}", encoded(ending, np.zeros(0, np.float32)), "bad"
    for ending in ("pcm16.wav", "pcm16.flac", "pcm16.aiff"):
        for samples in (1, 2, 17):
            yield f"short-{samples}-{ending}", encoded(ending, np.full(samples, 0.5, np.float32)), "good"
    yield "short-1-of-768-kHz.wav", encoded("pcm16.wav", np.full(1, 0.5, np.float32), 768_000), "either"
    for ending, disguise in (
        ("pcm16.wav", "mp3"),
        ("layer3.mp3", "wav"),
        ("pcm16.flac", "ogg"),
        ("vorbis.ogg", "flac"),
        ("pcm16.aiff", "wav"),
    ):
        yield f"disguised-{ending}.{disguise}", whole[ending], "good"
    for name, content in (
        ("empty", b""),
        ("zeros", bytes(4_096)),
        ("random", random.bytes(4_096)),
        ("text", b"file,arousal\nx.wav,3\n" * 100),
        ("html", b"<!DOCTYPE html><html><title>404 Not Found</title></html>" * 20),
        ("png", b"\x89PNG\r\n\x1a\n" + random.bytes(500)),
        ("zip", b"PK\x03\x04" + random.bytes(500)),
        ("pickle", b"\x80\x04\x95\x1c\0\0\0\0\0\0\0\x8c\x05posix\x94\x8c\x06system\x94\x93\x94."),
        ("video", b"\0\0\0\x20ftypisom\0\0\x02\0isomiso2avc1mp41" + random.bytes(500)),
        ("magic", b"RIFF"),
        ("other-riff", b"RIFF\x10\0\0\0AVI LIST" + bytes(100)),
        ("id3-alone", b"ID3\x04\0\0\x7f\x7f\x7f\x7f" + bytes(100)),
        ("sync-alone", b"\xff\xfb\x90\x64" + bytes(100)),
        ("ogg-magic", b"OggS" * 100),
        ("flac-magic", b"fLaC\x80\xff\xff\xff" + bytes(100)),
    ):
        for suffix in ("wav", "mp3"):
            yield f"no-audio-{name}.{suffix}", content, "bad"


def _patched(content: bytes, position: int, form: str, value: int | tuple[int, ...]) -> bytes:
    field = struct.pack(form, *(value if isinstance(value, tuple) else (value,)))
    return content[:position] + field + content[position + len(field) :]
