"""Random data that are the same in every process: both sides of a comparison draw them from the same seed."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float16, Float32

from emocluster_jax.config import ATTRIBUTES, FeatureConfig


def labelled_recordings(
    count: int, seed: int
) -> tuple[Float16[np.ndarray, "count chunks time mel"], Float32[np.ndarray, "count attributes"]]:
    """Chunks of noise whose mean follows the first rating, and ratings from 1 to 7."""
    features = FeatureConfig()
    rng = np.random.default_rng(seed)
    ratings = rng.normal(4, 1, (count, len(ATTRIBUTES))).clip(1, 7).astype(np.float32)
    shape = (features.chunks_per_utterance, features.chunk_frames, features.mel_bands)
    chunks = np.empty((count, *shape), np.float16)
    for i in range(count):
        noise = rng.standard_normal(shape, np.float32)
        chunks[i] = (noise + 0.5 * (ratings[i, 0] - 4)).clip(-features.clip, features.clip)
    return chunks, ratings


_GROUPS = 30


def grouped_points(count: int, dim: int, seed: int) -> Float32[np.ndarray, "count dim"]:
    """Points of overlapping groups, so that K-means still moves after 20 iterations."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((_GROUPS, dim), np.float32)
    points = np.empty((count, dim), np.float32)
    for start in range(0, count, 65_536):
        block = points[start : start + 65_536]
        block[:] = centres[rng.integers(_GROUPS, size=len(block))] + 2 * rng.standard_normal(block.shape, np.float32)
    return points


def random_rows(points: Float32[np.ndarray, "count dim"], count: int, seed: int) -> Float32[np.ndarray, "rows dim"]:
    """`count` different rows: the centroids that all contenders start from."""
    return points[np.random.default_rng(seed).choice(len(points), count, replace=False)]
