"""The frames of a long recording that end up in chunks, without computing the others."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from emocluster_jax.config import FeatureConfig
from emocluster_jax.preprocessing.spectrogram import mel_spectrogram


def mel_of_chunks(signal: Float[np.ndarray, " samples"], features: FeatureConfig) -> Float[np.ndarray, "time mel"]:
    """A spectrogram that `chunks.mel_chunks` cuts into the same chunks as the whole one.

    It is the whole one up to the duration from which chunks leave gaps (11 s with the default settings). Of longer
    recordings it is the chunks' frames, one chunk after another: time and memory no longer grow with the duration.

    Args:
      signal: mono, at `features.sample_rate_hz`.
      features: rate, FFT size, hop, number of bands, chunk length and number of chunks.

    Returns:
      Power as float32.
    """
    hop, length, count = features.hop_size, features.chunk_frames, features.chunks_per_utterance
    step = (len(signal) // hop + 1 - length) // max(count - 1, 1)
    if step <= length:
        return mel_spectrogram(signal, features)
    margin = -(
        -features.fft_size // (2 * hop)
    )  # frames at a cut's ends that would see zeros in place of its surroundings
    mel = np.empty((count, length, features.mel_bands), np.float32)
    for i in range(count):
        first = max(i * step - margin, 0)
        cut = signal[first * hop : (i * step + length - 1 + margin) * hop]
        mel[i] = mel_spectrogram(cut, features)[i * step - first :][:length]
    return mel.reshape(-1, features.mel_bands)
