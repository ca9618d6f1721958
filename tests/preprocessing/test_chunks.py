from __future__ import annotations

import numpy as np
import pytest

from emocluster_jax.config import FeatureConfig
from emocluster_jax.preprocessing.chunks import chunk_parts, frames_of_parts, split_chunks
from emocluster_jax.preprocessing.sources import reader
from emocluster_jax.preprocessing.spectrogram import mel_spectrogram
from small_models import noise


def frames_of_chunks(signal: np.ndarray, features: FeatureConfig) -> np.ndarray:
    return frames_of_parts(chunk_parts(reader(signal), 0, len(signal), features), features)


@pytest.mark.parametrize(
    "features",
    [
        FeatureConfig(),
        FeatureConfig(fft_size=1024, hop_size=160),  # several frames see a cut's edge
        FeatureConfig(hop_size=700),  # none does
        FeatureConfig(chunks_per_utterance=1),
    ],
)
@pytest.mark.parametrize("samples", [100, 15_999, 256 * 682, 256 * 692, 256 * 702, 256 * 703 - 1, 16_000 * 40 + 123])
def test_chunks_are_those_of_the_whole_spectrogram(features: FeatureConfig, samples: int) -> None:
    signal = noise(samples / 16_000)
    shape = features.chunk_frames, features.chunks_per_utterance

    chunks = split_chunks(frames_of_chunks(signal, features), *shape)

    whole = split_chunks(mel_spectrogram(signal, features), *shape)
    # The same frames through the same operations; matrix products of other sizes may round differently.
    np.testing.assert_allclose(chunks, whole, rtol=1e-5, atol=1e-7 * whole.max())


def test_work_does_not_grow_with_the_duration() -> None:
    assert len(frames_of_chunks(noise(60), FeatureConfig())) == 11 * 62
