"""What is noticed of recordings: silence, clipping, offsets, channels that cancel, and what chunks leave out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from emocluster_jax.config import AudioConfig, FeatureConfig, GivenFeatures, channel_number
from emocluster_jax.errors import InputError, RecordingError
from emocluster_jax.preprocessing import decoding, sources
from emocluster_jax.preprocessing.audio import Condition, read_audio, to_mono_resampled
from emocluster_jax.preprocessing.chunks import ChunkParts, chunk_parts, frames_of_parts, split_chunks
from emocluster_jax.preprocessing.quality import SILENCE, Quality, quality_of
from emocluster_jax.preprocessing.sources import LongRecording, open_source, reader
from small_models import noise, write_recording

RATE = 16_000
FEATURES = FeatureConfig()


def quality(signal: np.ndarray, condition: Condition | None = None) -> Quality:
    read = reader(signal)
    return quality_of(chunk_parts(read, 0, len(signal), FEATURES), FEATURES, condition or Condition())


def condition_of(path: Path, settings: AudioConfig | None = None) -> Condition:
    read_audio(path, RATE, settings or AudioConfig(), condition := Condition())
    return condition


def between_silences(silence_s: float, speech_s: float, seed: int = 0) -> np.ndarray:
    speech = noise(speech_s, seed=seed)
    silence = np.zeros(round(silence_s * RATE), np.float32)
    return np.concatenate([silence, speech / np.abs(speech).max(), silence])


@pytest.mark.parametrize("seconds", [0.2, 0.5, 1.0, 3.0, 11.0, 14.5, 60.0])
def test_what_chunks_cover(seconds: float) -> None:
    signal = noise(seconds)
    frames = 1 + len(signal) // 256
    cut = split_chunks(np.arange(max(frames, 62))[:, None].astype(np.float32), 62, 11)
    covered = len(np.intersect1d(cut, np.arange(frames))) / frames
    found = quality(signal)
    assert found.covered == pytest.approx(covered, abs=1e-12)
    assert found.padded == max(62 - frames, 0) / 62
    assert found.silent_chunks == 0


@pytest.mark.parametrize(("silence_s", "speech_s"), [(1, 2), (2, 0.4), (4, 4), (10, 3), (30, 20), (55, 10)])
def test_silent_chunks_are_those_without_power(silence_s: float, speech_s: float) -> None:
    """Frames of digital silence have no power at all; of a chunk that is not silent, some have."""
    signal = between_silences(silence_s, speech_s)
    parts = chunk_parts(reader(signal), 0, len(signal), FEATURES)
    chunks = split_chunks(frames_of_parts(parts, FEATURES), 62, 11)
    without_power = (chunks == 0).all(axis=(1, 2))
    # A Hann window lets next to nothing of its first and last samples through, but not nothing.
    assert quality(signal).silent_chunks == without_power.mean()
    assert without_power.mean() > 0


def test_silence_may_have_an_offset_and_what_rounding_leaves() -> None:
    signal = between_silences(4, 3)
    dither = np.random.default_rng(0).uniform(-0.45 * SILENCE, 0.45 * SILENCE, len(signal)).astype(np.float32)
    expected = quality(signal).silent_chunks
    assert 0 < expected < 1
    assert quality(0.9 * signal + 0.1 + dither).silent_chunks == expected
    assert quality(signal + 3 * dither).silent_chunks == 0


def test_given_features_have_no_samples_to_judge() -> None:
    features = GivenFeatures(dimensions=4, frames_per_second=50)
    parts = ChunkParts(1_100, [np.zeros((1_100, 4), np.float32)])
    found = quality_of(parts, features, Condition())
    assert found.covered == 0.5 and found.padded == 0
    assert np.isnan(found[2:]).all() and not found.is_silent and found.noticed == ()


def _plateaus(samples: np.ndarray) -> int:
    """Samples in runs of three or more equal ones of 0.99 or beyond, counted one by one."""
    count = start = 0
    for end in range(1, len(samples) + 1):
        if end == len(samples) or samples[end] != samples[start]:
            count += end - start if end - start >= 3 and abs(samples[start]) >= 0.99 else 0
            start = end
    return count


@pytest.mark.parametrize("block", [1, 2, 3, 7, 1 << 18])
def test_clipped_samples_are_counted_across_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    random = np.random.default_rng(1)
    levels = np.array([-1, -0.5, 0.5, 0.98, 32_767 / 32_768])
    stereo = np.repeat(random.choice(levels, (300, 2)), 2, axis=0)  # runs of 2, 4, 6 ...
    stereo[: len(stereo) // 2, 1] = 0.1
    soundfile.write(tmp_path / "x.wav", stereo, RATE, subtype="PCM_16")
    monkeypatch.setattr(decoding, "BLOCK_SAMPLES", 2 * block)
    left, right = (_plateaus(channel) for channel in soundfile.read(tmp_path / "x.wav", dtype="float32")[0].T)
    assert left > right > 20
    assert condition_of(tmp_path / "x.wav").clipped_samples == left + right
    assert condition_of(tmp_path / "x.wav", AudioConfig(channel=2)).clipped_samples == right


@pytest.mark.parametrize(("subtype", "rate"), [("PCM_U8", 8_000), ("PCM_16", 16_000), ("PCM_24", 48_000)])
def test_clipping_is_told_from_a_loud_tone(tmp_path: Path, subtype: str, rate: int) -> None:
    """A deep tone stays near its peak for long, but not at it."""
    tone = np.sin(2 * np.pi * 200 * np.arange(rate) / rate)
    for gain in (1, 1.5):
        path = tmp_path / f"{gain}.wav"
        soundfile.write(path, np.clip(gain * tone, -1, 1), rate, subtype=subtype)
        # 200 periods of two plateaus, arccos(1 / 1.5) / pi of the time
        assert condition_of(path).clipped_samples == (0 if gain == 1 else pytest.approx(0.535 * rate, rel=0.1))


def test_an_offset_is_told_and_removed_only_if_asked(tmp_path: Path) -> None:
    clean = noise(2, 48_000)
    clean -= clean.mean()
    for rate in (RATE, 48_000):  # with resampling and without
        path = write_recording(tmp_path / f"{rate}.wav", 0.1 * clean + 0.25, rate)
        plain, removed = condition_of(path), condition_of(path, AudioConfig(remove_dc=True))
        peak = float(np.abs(0.1 * clean + 0.25).max())
        for condition in (plain, removed):
            assert condition.dc_offset == pytest.approx(0.25 / peak, rel=1e-5)
        assert read_audio(path, RATE).mean() > 0.5
        # The offset leaves nothing behind at the edges, where resampling would have made steps of it.
        expected = to_mono_resampled(clean, rate, RATE)
        np.testing.assert_allclose(read_audio(path, RATE, AudioConfig(remove_dc=True)), expected, atol=1e-5)
        array = soundfile.read(path, dtype="float32")[0]
        in_memory = to_mono_resampled(array, rate, RATE, AudioConfig(remove_dc=True))
        np.testing.assert_allclose(in_memory, expected, atol=1e-5)


def test_an_offset_is_removed_from_recordings_that_are_not_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_recording(tmp_path / "x.wav", noise(9, 22_050) + 0.3, 22_050)
    settings = AudioConfig(remove_dc=True)
    held = open_source(path, FEATURES, settings)
    monkeypatch.setattr(sources, "HELD_S", 5.0)
    monkeypatch.setattr(decoding, "BLOCK_SAMPLES", 10_000)
    long = open_source(path, FEATURES, settings)
    assert isinstance(held, np.ndarray) and isinstance(long, LongRecording)
    # The mean is summed block by block, in float64.
    np.testing.assert_allclose(reader(long)(0, len(long)), held, atol=1e-6)


def test_nothing_but_an_offset_is_silence_once_it_is_removed(tmp_path: Path) -> None:
    path = write_recording(tmp_path / "x.wav", np.full(RATE, 0.1, np.float32), 22_050)
    assert quality(read_audio(path, RATE)).silent_chunks < 1  # resampling made edges of it
    with pytest.raises(RecordingError, match="silent"):
        read_audio(path, RATE, AudioConfig(remove_dc=True))
    for samples in (1, 17, 20 * RATE):
        assert quality(np.ones(samples, np.float32)).silent_chunks == 0  # no pause in something louder


@pytest.mark.parametrize("suffix", ["wav", "flac", "mp3", "opus"])
def test_channels_that_cancel(tmp_path: Path, suffix: str) -> None:
    left = noise(2)
    path = tmp_path / f"x.{suffix}"
    kind = {"opus": ("OGG", "OPUS")}.get(suffix, (None, None))
    soundfile.write(path, np.stack([left, -left], axis=1), RATE, format=kind[0], subtype=kind[1])
    with pytest.raises(RecordingError, match=r"the channels cancel.*`channel=first`"):
        read_audio(path, RATE)
    first, second = (read_audio(path, RATE, AudioConfig(channel=i)) for i in (1, 2))
    np.testing.assert_allclose(first, -second, atol=1e-3)  # of a codec
    with pytest.raises(RecordingError, match="no channel 3: it has 2"):
        read_audio(path, RATE, AudioConfig(channel=3))
    samples = np.stack([left, -left])
    with pytest.raises(RecordingError, match="the channels cancel"):
        to_mono_resampled(samples, RATE, RATE)
    assert np.array_equal(to_mono_resampled(samples, RATE, RATE, AudioConfig(channel=2)), -left / np.abs(left).max())


def test_one_loud_channel_of_many_does_not_cancel() -> None:
    channels = np.zeros((1_024, 2_000), np.float32)
    channels[700] = noise(0.125)
    assert np.abs(to_mono_resampled(channels, RATE, RATE)).max() == 1


def test_words_for_channels() -> None:
    assert [channel_number(text) for text in ("mix", "first", "3")] == [None, 1, 3]
    for text in ("0", "-1", "last", "", "1.5"):
        with pytest.raises(InputError, match=r"`channel` is .*; expected mix, first, or a channel's number from 1"):
            AudioConfig(channel_number(text))


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64"])
def test_integers_are_samples_of_their_width(tmp_path: Path, dtype: str) -> None:
    """Unsigned ones are centred, as 8-bit WAVE files have them."""
    signal = np.stack([noise(0.5), noise(0.5, seed=1)]).astype(np.float64)
    bits = np.iinfo(dtype).bits
    scaled = np.round(signal * 2.0 ** (bits - 1))
    integers = (scaled + (2.0 ** (bits - 1) if dtype.startswith("u") else 0)).astype(dtype)
    # Half a step of the type, of a signal with a peak of 0.5 at the most; of wide types what float32 has.
    atol = 8 * 2.0 ** -min(bits, 24)
    for given, expected in ((integers, signal), (integers[0], signal[0])):
        np.testing.assert_allclose(
            to_mono_resampled(given, RATE, RATE), to_mono_resampled(expected, RATE, RATE), atol=atol
        )


def test_eight_bits_as_scipy_reads_them(tmp_path: Path) -> None:
    from scipy.io import wavfile

    path = tmp_path / "x.wav"
    soundfile.write(path, noise(0.5), RATE, subtype="PCM_U8")
    rate, samples = wavfile.read(path)
    assert samples.dtype == np.uint8
    assert np.array_equal(to_mono_resampled(samples, rate, RATE), read_audio(path, RATE))
