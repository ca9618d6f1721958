"""Cutting a recording of any duration into the same number of chunks, and the whole way there from its signal."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from emocluster_jax.config import FeatureConfig, Features
from emocluster_jax.preprocessing.normalization import FeatureStatistics, normalize
from emocluster_jax.preprocessing.spectrogram import mel_spectrogram


def split_chunks(
    mel: Float[np.ndarray, "time mel"], chunk_frames: int, count: int
) -> Float[np.ndarray, "chunks frames mel"]:
    """`count` evenly spread chunks of `chunk_frames` frames, which overlap or leave gaps as the duration demands.

    Chunk i begins at frame i * floor((T - chunk_frames) / (count - 1)), so the last ends up to count - 2 frames before
    the recording does. Shorter recordings are padded behind with 0, which is the mean of normalised features; all of
    their chunks are the same.

    Source: Lin & Busso, "An efficient temporal modeling approach for speech emotion recognition by mapping varied
    duration sentences into fixed number of chunks", Interspeech 2020.
    """
    if len(mel) < chunk_frames:
        mel = np.pad(mel, ((0, chunk_frames - len(mel)), (0, 0)))
    step = (len(mel) - chunk_frames) // max(count - 1, 1)
    return np.stack([mel[i * step : i * step + chunk_frames] for i in range(count)])


def mel_chunks(
    mel: Float[np.ndarray, "time mel"], features: Features, statistics: FeatureStatistics
) -> Float[np.ndarray, "chunks frames mel"]:
    """Normalised chunks of a spectrogram, or of other frames, as float32."""
    normalized = normalize(mel, statistics, features.clip)
    return split_chunks(normalized, features.chunk_frames, features.chunks_per_utterance)


def normalized_chunks(
    signal: Float[np.ndarray, " samples"], features: FeatureConfig, statistics: FeatureStatistics
) -> Float[np.ndarray, "chunks frames mel"]:
    """From a mono signal with a peak of one, at `features.sample_rate_hz`, to what the network takes, as float32."""
    return mel_chunks(mel_spectrogram(signal, features), features, statistics)
