"""Decoding: every format, rate and channel count gives the same signal, and bad files a reason."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr

from emocluster_jax.config import FeatureConfig
from emocluster_jax.errors import RecordingError
from emocluster_jax.preprocessing import audio, decoding, sources
from emocluster_jax.preprocessing.audio import read_audio, to_mono_resampled
from emocluster_jax.preprocessing.sources import open_source

RATE = 16_000


def speechlike(seconds: float, rate: int = RATE, seed: int = 0) -> np.ndarray:
    """Noise under a changing envelope, low enough to survive 8 kHz and lossy codecs; float32, peak 0.5."""
    time = np.arange(int(seconds * rate)) / rate
    rng = np.random.default_rng(seed)
    tones = sum(
        np.sin(2 * np.pi * f * time + p) for f, p in zip((180, 410, 950, 1600), rng.uniform(0, 6, 4), strict=True)
    )
    signal = tones * (1.2 + np.sin(2 * np.pi * 3 * time))
    return (0.5 * signal / np.abs(signal).max()).astype(np.float32)


@pytest.mark.parametrize("suffix", ["wav", "flac", "mp3", "ogg"])
@pytest.mark.parametrize(("rate", "channels"), [(8_000, 1), (16_000, 2), (44_100, 2), (48_000, 6)])
def test_formats_rates_and_channels(tmp_path: Path, suffix: str, rate: int, channels: int) -> None:
    if suffix == "mp3":
        channels = min(channels, 2)  # all that MP3 has
    signal = speechlike(1.5, rate)
    path = tmp_path / f"x.{suffix}"
    soundfile.write(path, np.repeat(signal[:, None], channels, axis=1), rate)
    decoded = read_audio(path, RATE)
    expected = to_mono_resampled(signal, rate, RATE)
    assert decoded.dtype == np.float32
    assert abs(len(decoded) - len(expected)) <= 1
    assert np.abs(decoded).max() == pytest.approx(1, abs=1e-6)
    n = min(len(decoded), len(expected))
    error = np.sqrt(np.mean((decoded[:n] - expected[:n]) ** 2) / np.mean(expected[:n] ** 2))
    # 16-bit rounding for the lossless formats; what the codecs lose otherwise.
    assert error < (1e-3 if suffix in ("wav", "flac") else 0.12)


def test_mean_over_channels(tmp_path: Path) -> None:
    left, right = speechlike(1, seed=1), speechlike(1, seed=2)
    soundfile.write(tmp_path / "x.wav", np.stack([left, right], axis=1), RATE, subtype="FLOAT")
    mean = (left + right) / 2
    np.testing.assert_allclose(read_audio(tmp_path / "x.wav", RATE), mean / np.abs(mean).max(), atol=1e-6)
    np.testing.assert_allclose(
        to_mono_resampled(np.stack([left, right]), RATE, RATE), mean / np.abs(mean).max(), atol=1e-6
    )


def test_peak_is_taken_after_resampling() -> None:
    """Low-pass filtering lowers the peak of a click; the signal that is analysed has a peak of one all the same."""
    signal = speechlike(1, 48_000) * 0.1
    signal[20_000] = 1
    assert np.abs(to_mono_resampled(signal, 48_000, RATE)).max() == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("rate", [8_000, 44_100, 48_000])
def test_blocks_give_the_bits_of_the_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rate: int) -> None:
    signal = speechlike(2, rate)
    soundfile.write(tmp_path / "x.wav", signal, rate, subtype="FLOAT")
    whole = soxr.resample(signal, rate, RATE, quality="HQ")
    monkeypatch.setattr(decoding, "BLOCK_SAMPLES", 1_000)
    assert np.array_equal(read_audio(tmp_path / "x.wav", RATE), whole / np.abs(whole).max())


def test_mp3_blocks_are_those_of_the_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Seeking between blocks, as `soundfile` does by itself, changes an MP3 file's samples by tenths."""
    soundfile.write(tmp_path / "x.mp3", speechlike(4), RATE)
    whole, _ = soundfile.read(tmp_path / "x.mp3", dtype="float32")
    monkeypatch.setattr(decoding, "BLOCK_SAMPLES", 4_096)
    np.testing.assert_allclose(read_audio(tmp_path / "x.mp3", RATE), whole / np.abs(whole).max(), atol=1e-5)


def test_originals_come_close_to_the_converted_files(emotale: Path) -> None:
    """48 kHz stereo as published against 16 kHz mono FLAC; the difference is that file's 16-bit rounding."""
    originals = sorted((emotale / "original_48k_stereo").glob("*.wav"))
    assert len(originals) == 3
    for original in originals:
        ours, theirs = read_audio(original, RATE), read_audio(emotale / "audio" / f"{original.stem}.flac", RATE)
        assert len(ours) == len(theirs)
        assert np.abs(ours - theirs).max() < 3e-4


def _cut(path: Path, keep: float) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * keep)])


@pytest.mark.parametrize("suffix", ["wav", "flac", "mp3", "ogg"])
@pytest.mark.parametrize("keep", [0.5, 0.97])
def test_truncated_files(tmp_path: Path, suffix: str, keep: float) -> None:
    path = tmp_path / f"x.{suffix}"
    soundfile.write(path, speechlike(3), RATE)
    read_audio(path, RATE)
    _cut(path, keep)
    with pytest.raises(RecordingError, match="truncated"):
        read_audio(path, RATE)


@pytest.mark.parametrize("suffix", ["wav", "flac", "mp3", "ogg"])
def test_only_the_start_of_a_header(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"x.{suffix}"
    soundfile.write(path, speechlike(1), RATE)
    path.write_bytes(path.read_bytes()[:30])
    with pytest.raises(RecordingError, match="truncated"):
        read_audio(path, RATE)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty file"),
        (b"file,arousal\na.wav,3\n" * 50, "not audio"),
        (b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 8, "not audio"),
        (bytes(5_000), "not audio"),
    ],
)
def test_what_is_no_audio(tmp_path: Path, content: bytes, reason: str) -> None:
    for name in ("x.wav", "x.mp3", "x.raw"):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(RecordingError, match=reason):
            read_audio(tmp_path / name, RATE)


def test_what_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match="no such file"):
        read_audio(tmp_path / "x.wav", RATE)
    os.mkfifo(tmp_path / "pipe.wav")
    for path in (tmp_path, tmp_path / "pipe.wav"):  # a pipe would be waited for
        with pytest.raises(RecordingError, match="not a file"):
            read_audio(path, RATE)


@pytest.mark.parametrize(
    ("samples", "reason"),
    [
        (np.zeros(RATE), "silent"),
        (np.zeros(0), "no samples"),
        (np.full(RATE, np.nan), "NaN or infinite"),
        (np.r_[np.ones(50_000), np.inf], "NaN or infinite"),
    ],
)
def test_unusable_samples(tmp_path: Path, samples: np.ndarray, reason: str) -> None:
    soundfile.write(tmp_path / "x.wav", samples.astype(np.float32), 48_000, subtype="FLOAT")
    with pytest.raises(RecordingError, match=reason):
        read_audio(tmp_path / "x.wav", RATE)
    with pytest.raises(RecordingError, match=reason):
        to_mono_resampled(samples, 48_000, RATE)


@pytest.mark.parametrize("rate", [1, 4_000_000])
def test_absurd_sample_rates(tmp_path: Path, rate: int) -> None:
    soundfile.write(tmp_path / "x.wav", speechlike(0.1), rate)
    with pytest.raises(RecordingError, match=f"sample rate of {rate} Hz"):
        read_audio(tmp_path / "x.wav", RATE)


def test_transposed_array() -> None:
    with pytest.raises(RecordingError, match="transpose"):
        to_mono_resampled(np.ones((1_000, 2), np.float32), RATE, RATE)


def test_integer_samples() -> None:
    signal = speechlike(0.5)
    integers = np.round(signal * 32_767).astype(np.int16)
    np.testing.assert_allclose(
        to_mono_resampled(integers, RATE, RATE), to_mono_resampled(signal, RATE, RATE), atol=1e-4
    )


def test_wav_from_a_pipe(tmp_path: Path) -> None:
    """Programs that write to a pipe cannot know the size; their placeholder is no promise."""
    path = tmp_path / "x.wav"
    soundfile.write(path, speechlike(1), RATE)
    complete = read_audio(path, RATE)
    content = bytearray(path.read_bytes())
    size = content.index(b"data") + 4
    content[4:8] = content[size : size + 4] = struct.pack("<I", 0xFFFFFFFF)
    path.write_bytes(content)
    assert np.array_equal(read_audio(path, RATE), complete)


@pytest.mark.parametrize("claimed", [0, 2**36 - 1, 2**35])
def test_lengths_in_a_flac_header(tmp_path: Path, claimed: int) -> None:
    """Zero and all ones mean "unknown"; 2^35 samples are 137 GB that must not be allocated, and are not there."""
    path = tmp_path / "x.flac"
    soundfile.write(path, speechlike(1), RATE)
    complete = read_audio(path, RATE)
    content = bytearray(path.read_bytes())
    fields = int.from_bytes(content[18:26], "big")
    content[18:26] = (fields >> 36 << 36 | claimed).to_bytes(8, "big")
    path.write_bytes(content)
    if claimed == 2**35:
        with pytest.raises(RecordingError, match="truncated"):
            read_audio(path, RATE)
    else:
        assert np.array_equal(read_audio(path, RATE), complete)


def test_mp3_without_a_length(tmp_path: Path) -> None:
    """Without the frame that holds it, libsndfile guesses the length from the first bit rate: 2.4 times too much."""
    path = tmp_path / "x.mp3"
    soundfile.write(path, np.concatenate([np.zeros(160_000, np.float32), speechlike(10)]), RATE)
    content = path.read_bytes()
    start = content.index(content[:2], 100)
    path.write_bytes(content[start:])
    assert len(read_audio(path, RATE)) == pytest.approx(320_000, abs=3_000)


def test_recordings_too_long_to_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    soundfile.write(tmp_path / "x.flac", speechlike(20), RATE)
    monkeypatch.setattr(audio, "LONGEST_S", 18.0)
    with pytest.raises(RecordingError, match="longer than"):
        read_audio(tmp_path / "x.flac", RATE)
    monkeypatch.setattr(sources, "LONGEST_S", 19.0)
    with pytest.raises(RecordingError, match="longer than"):
        open_source(tmp_path / "x.flac", FeatureConfig())


def test_names_that_are_no_valid_utf8(tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"-caf\xe9 'n\nq\".wav")
    soundfile.write(tmp_path / "plain.wav", np.linspace(-1, 1, 1_000), 16_000)
    (tmp_path / "plain.wav").rename(path)
    assert len(read_audio(path, 16_000)) == 1_000
