"""Spectrograms, normalisation and chunks, against the reference and librosa."""

from __future__ import annotations

import subprocess
import sys
from functools import reduce
from pathlib import Path

import numpy as np
import pytest
import scipy.io
from hypothesis import given
from hypothesis import strategies as st

from emocluster_jax.config import FeatureConfig
from emocluster_jax.preprocessing.audio import read_audio
from emocluster_jax.preprocessing.chunks import mel_chunks, split_chunks
from emocluster_jax.preprocessing.normalization import (
    Statistics,
    feature_statistics,
    frame_moments,
    merge,
    no_frames,
    normalize,
)
from emocluster_jax.preprocessing.spectrogram import mel_filters, mel_spectrogram

FEATURES = FeatureConfig()
REFERENCE_FILES = ("DK_001_A_1", "DK_008_N_2", "DK_019_S_5")


@pytest.fixture(scope="module")
def statistics(reference: Path) -> Statistics:
    mean, std = (
        scipy.io.loadmat(reference / "norm" / f"feat_norm_{name}.mat")["normal_para"].ravel().astype(np.float32)
        for name in ("means", "stds")
    )
    return Statistics(mean, std)


def test_reference_holds_these_files_only(reference: Path) -> None:
    with np.load(reference / "parity" / "features.npz") as arrays:
        assert set(arrays) == {f"{name}/{kind}" for name in REFERENCE_FILES for kind in ("mel", "chunks")}


@pytest.mark.parametrize("name", REFERENCE_FILES)
def test_reference_features(reference: Path, emotale: Path, statistics: Statistics, name: str) -> None:
    signal = read_audio(emotale / "audio" / f"{name}.flac", FEATURES.sample_rate_hz)
    with np.load(reference / "parity" / "features.npz") as arrays:
        mel, chunks = arrays[f"{name}/mel"], arrays[f"{name}/chunks"]
    # Measured 4e-7 and 7e-7; required are 1e-4 and 1e-3.
    np.testing.assert_allclose(mel_spectrogram(signal, FEATURES), mel, rtol=1e-5)
    ours = mel_chunks(mel_spectrogram(signal, FEATURES), FEATURES, statistics)
    assert ours.dtype == np.float32
    np.testing.assert_allclose(ours, chunks, rtol=0, atol=1e-5)


@pytest.mark.parametrize("damage", [None, b"", b"\x93NUMPY", "half"])
def test_filters_are_kept_for_processes_that_need_not_import_librosa(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: bytes | str | None
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    expected = mel_filters.__wrapped__(8_000, 256, 40)
    (path,) = (tmp_path / "emocluster_jax" / "mel_filters").iterdir()
    if damage is not None:
        path.write_bytes(path.read_bytes()[:5_000] if isinstance(damage, str) else damage)

    code = f"""
import sys
import numpy as np
from emocluster_jax.preprocessing.spectrogram import mel_filters
np.save({str(tmp_path / "found.npy")!r}, mel_filters(8_000, 256, 40))
assert ("librosa" in sys.modules) == {damage is not None}
"""
    subprocess.run([sys.executable, "-c", code], check=True)
    np.testing.assert_array_equal(np.load(tmp_path / "found.npy"), expected)
    np.testing.assert_array_equal(np.load(path), expected)  # what was damaged is written anew


def test_filters_where_nothing_can_be_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "emocluster_jax").write_text("a file, where there should be a folder")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert mel_filters.__wrapped__(8_000, 256, 40).shape == (40, 129)


@pytest.mark.parametrize("samples", [1, 255, 256, 513, 16_000, 90_001, 200_000])
def test_spectrogram_is_librosas(samples: int) -> None:
    import librosa

    # Loud and quiet parts, so that errors of single precision would show in the quiet bands.
    rng = np.random.default_rng(samples)
    signal = (rng.standard_normal(samples) * np.geomspace(1, 1e-4, samples)).astype(np.float32)
    theirs = librosa.feature.melspectrogram(
        y=signal, sr=16_000, n_fft=512, hop_length=256, n_mels=128, pad_mode="constant"
    ).T
    ours = mel_spectrogram(signal, FEATURES)
    assert ours.shape == (1 + samples // 256, 128)
    np.testing.assert_allclose(ours, theirs, rtol=1e-5)


def test_other_settings() -> None:
    import librosa

    features = FeatureConfig(sample_rate_hz=8_000, fft_size=400, hop_size=100, mel_bands=40)
    signal = np.random.default_rng(0).standard_normal(8_000).astype(np.float32)
    theirs = librosa.feature.melspectrogram(
        y=signal, sr=8_000, n_fft=400, hop_length=100, n_mels=40, pad_mode="constant"
    ).T
    np.testing.assert_allclose(mel_spectrogram(signal, features), theirs, rtol=1e-5)


@given(
    st.lists(st.tuples(st.integers(1, 40), st.integers(0, 3)), min_size=1, max_size=8),
    st.integers(0, 2**32 - 1),
)
def test_merged_moments_are_those_of_all_frames(recordings: list[tuple[int, int]], seed: int) -> None:
    """For any cut into recordings, and whether merged one by one or in groups, of any recordings each."""
    rng = np.random.default_rng(seed)
    frames = [(rng.standard_normal((n, 5)) * 10 + 1e3).astype(np.float32) for n, _ in recordings]
    one_by_one = no_frames(5)
    for recording in frames:
        one_by_one = merge(one_by_one, frame_moments(recording))
    groups = [no_frames(5)] * 4
    for recording, (_, group) in zip(frames, recordings, strict=True):
        groups[group] = merge(groups[group], frame_moments(recording))
    together = np.concatenate(frames).astype(np.float64)
    for moments in (one_by_one, reduce(merge, groups)):
        assert moments.count == len(together)
        np.testing.assert_allclose(moments.mean, together.mean(axis=0), rtol=1e-12)
        np.testing.assert_allclose(moments.m2 / moments.count, together.var(axis=0), rtol=1e-9, atol=1e-9)


def test_statistics_are_population_statistics() -> None:
    frames = np.array([[1.0, 5.0], [3.0, 5.0]], np.float32)
    statistics = feature_statistics(frame_moments(frames))
    assert statistics.mean.tolist() == [2, 5]
    assert statistics.std.tolist() == [1, 1]  # of the constant band 0, which nothing can be divided by


def test_a_constant_band_is_0_and_its_rounding_no_deviation() -> None:
    frames = np.full((1000, 2), [0.1, -12345.678], np.float32)
    moments = merge(frame_moments(frames[:333]), frame_moments(frames[333:]))
    statistics = feature_statistics(moments)
    assert statistics.std.tolist() == [1, 1]
    assert not normalize(frames, statistics, clip=3).any()
    # The least that float32 can vary by is a deviation.
    frames[7, 1] = np.nextafter(frames[7, 1], np.float32(0))
    assert feature_statistics(frame_moments(frames)).std[1] < 1e-3


def test_normalize_clips_and_replaces_nan() -> None:
    statistics = Statistics(np.array([1, 0, 2, 2], np.float32), np.array([2, 1, 0, 0], np.float32))
    mel = np.array([[2, 9, 2, 3], [0, -9, 2, 1]], np.float32)
    # Band 2 is constant and equal to its mean (0/0), band 3 differs from it (1/0).
    assert normalize(mel, statistics, 3.0).tolist() == [[0.5, 3, 0, 3], [-0.5, -3, 0, -3]]


@given(st.integers(1, 1_500), st.integers(1, 80), st.integers(1, 14))
def test_any_duration_gives_the_same_number_of_chunks(frames: int, chunk_frames: int, count: int) -> None:
    mel = np.repeat(np.arange(1, frames + 1, dtype=np.float32)[:, None], 2, axis=1)
    chunks = split_chunks(mel, chunk_frames, count)
    assert chunks.shape == (count, chunk_frames, 2)
    step = max(frames - chunk_frames, 0) // max(count - 1, 1)
    for i, chunk in enumerate(chunks[:, :, 0]):
        expected = np.arange(i * step, i * step + chunk_frames)
        assert chunk.tolist() == np.where(expected < frames, expected + 1, 0).tolist()


def test_short_recordings_are_padded_with_the_normalised_mean() -> None:
    statistics = Statistics(np.full(128, 4, np.float32), np.full(128, 2, np.float32))
    chunks = mel_chunks(np.full((10, 128), 6, np.float32), FEATURES, statistics)
    assert chunks.shape == (11, 62, 128)
    assert (chunks[:, :10] == 1).all()
    assert (chunks[:, 10:] == 0).all()


def test_importing_preprocessing_is_light() -> None:
    """Every worker pays for these imports; librosa comes with the first spectrogram, JAX and TFDS never."""
    code = (
        "import sys, emocluster_jax.preprocessing.chunks, emocluster_jax.preprocessing.audio\n"
        "assert not {'librosa', 'jax', 'tensorflow_datasets', 'scipy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
