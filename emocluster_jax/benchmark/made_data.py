"""Random data that are the same in every process, for both sides of a comparison."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
from jaxtyping import Float16, Float32

from emocluster_jax.config import FeatureConfig
from emocluster_jax.corpora.labels import VAD

_GROUPS = 30
_RATE_HZ = 48_000
_LONG_RATE_HZ = 24_000
_DIFFERENT = 40


def labelled_recordings(
    count: int, seed: int
) -> tuple[Float16[np.ndarray, "count chunks time mel"], Float32[np.ndarray, "count attributes"]]:
    """Chunks of noise with means that follow the first rating, and ratings from 1 to 7."""
    features = FeatureConfig()
    rng = np.random.default_rng(seed)
    ratings = rng.normal(4, 1, (count, len(VAD))).clip(1, 7).astype(np.float32)
    shape = (features.chunks_per_utterance, features.chunk_frames, features.mel_bands)
    chunks = np.empty((count, *shape), np.float16)
    for recording, rating in zip(chunks, ratings[:, 0], strict=True):
        noise = rng.standard_normal(shape, np.float32) + 0.5 * (rating - 4)
        recording[:] = noise.clip(-features.clip, features.clip)
    return chunks, ratings


def points_and_centroids(
    count: int, dim: int, clusters: int
) -> tuple[Float32[np.ndarray, "count dim"], Float32[np.ndarray, "clusters dim"]]:
    """Points of overlapping groups, on which K-means still moves after 20 iterations, and its initial centroids."""
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((_GROUPS, dim), np.float32)
    points = np.empty((count, dim), np.float32)
    for start in range(0, count, 65_536):
        block = points[start : start + 65_536]
        block[:] = centres[rng.integers(_GROUPS, size=len(block))] + 2 * rng.standard_normal(block.shape, np.float32)
    return points, points[np.random.default_rng(1).choice(count, clusters, replace=False)]


def temporary_recordings(count: int, seconds: float) -> tuple[list[Path], tempfile.TemporaryDirectory[str]]:
    """Writes recordings as speech corpora often keep them, 16 bit, stereo, 48 kHz: bursts of noise over a tone.

    Some 40 files differ; the others are links to them, to save disk space. All are in a subfolder of their own.
    """
    import soundfile  # the suites that only compute do without it

    folder = tempfile.TemporaryDirectory()
    rng = np.random.default_rng(0)
    time = np.arange(round(seconds * _RATE_HZ)) / _RATE_HZ
    paths = [Path(folder.name) / "recordings" / f"{i:05d}.wav" for i in range(count)]
    paths[0].parent.mkdir()
    for path in paths[:_DIFFERENT]:
        bursts = np.sin(2 * np.pi * rng.uniform(2, 5) * time) > 0
        signal = 0.3 * np.sin(2 * np.pi * rng.uniform(80, 300) * time) + 0.2 * bursts * rng.standard_normal(len(time))
        soundfile.write(path, np.stack([signal, 0.8 * signal], axis=1).clip(-1, 1), _RATE_HZ, subtype="PCM_16")
    for i, path in enumerate(paths[_DIFFERENT:]):
        path.symlink_to(paths[i % _DIFFERENT])
    return paths, folder


def temporary_long_recording(hours: float) -> tuple[Path, tempfile.TemporaryDirectory[str]]:
    """Writes a FLAC file of a voice-like tone and noise, mono, 24 kHz: the same minute again and again."""
    import soundfile

    folder = tempfile.TemporaryDirectory()
    path = Path(folder.name) / "long.flac"
    time = np.arange(60 * _LONG_RATE_HZ) / _LONG_RATE_HZ
    tone = 0.3 * np.sin(2 * np.pi * 150 * time) * np.sin(2 * np.pi * 0.3 * time)
    minute = (tone + 0.02 * np.random.default_rng(0).standard_normal(len(time))).astype(np.float32)
    with soundfile.SoundFile(path, "w", _LONG_RATE_HZ, 1, format="FLAC", subtype="PCM_16") as file:
        for _ in range(round(hours * 60)):
            file.write(minute)
    return path, folder
