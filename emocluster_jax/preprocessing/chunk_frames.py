"""The frames of a long recording that end up in chunks, without computing the others."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from emocluster_jax.config import FeatureConfig
from emocluster_jax.preprocessing.long_recordings import Read
from emocluster_jax.preprocessing.spectrogram import mel_spectrogram


class ChunkSource(NamedTuple):
    """What a recording's chunks are made of: samples, or frames that were given.

    Attributes:
      length: of the whole recording, in samples or frames.
      parts: the whole of it, or what each chunk takes of it, in the chunks' order.
    """

    length: int
    parts: list[Float[np.ndarray, " part *frame"]]


def signal_of_chunks(read: Read, start: int, end: int, features: FeatureConfig) -> ChunkSource:
    """Reads what is needed of a signal, or of a window of it, as if the window were all there is.

    Args:
      read: gives parts of the signal; mono, at `features.sample_rate_hz`. It is asked for them in order.
      start: where the window begins, in samples.
      end: where it ends.
      features: rate, FFT size, hop, number of bands, chunk length and number of chunks.

    Returns:
      Up to the duration from which chunks leave gaps (11 s with the default settings) the whole window.
    """
    samples = end - start
    step = _step(samples, features)
    if step <= features.chunk_frames:
        return ChunkSource(samples, [read(start, end)])
    margin, hop = _margin(features), features.hop_size
    parts = []
    for i in range(features.chunks_per_utterance):
        first = max(i * step - margin, 0) * hop
        last = (i * step + features.chunk_frames - 1 + margin) * hop
        parts.append(read(start + first, min(start + last, end)))
    return ChunkSource(samples, parts)


def mel_of_chunk_source(source: ChunkSource, features: FeatureConfig) -> Float[np.ndarray, "time mel"]:
    """A spectrogram that `chunks.mel_chunks` cuts into the same chunks as the whole one; see `mel_of_chunks`."""
    if len(source.parts) == 1:
        return mel_spectrogram(source.parts[0], features)
    length, margin = features.chunk_frames, _margin(features)
    step = _step(source.length, features)
    mel = np.empty((len(source.parts), length, features.mel_bands), np.float32)
    for i, part in enumerate(source.parts):
        mel[i] = mel_spectrogram(part, features)[min(i * step, margin) :][:length]
    return mel.reshape(-1, features.mel_bands)


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
    parts = signal_of_chunks(lambda start, end: signal[start:end], 0, len(signal), features)
    return mel_of_chunk_source(parts, features)


def _step(samples: int, features: FeatureConfig) -> int:
    """Frames from one chunk's beginning to the next one's."""
    return (samples // features.hop_size + 1 - features.chunk_frames) // max(features.chunks_per_utterance - 1, 1)


def _margin(features: FeatureConfig) -> int:
    """Frames at a part's ends that would see zeros in place of their surroundings."""
    return -(-features.fft_size // (2 * features.hop_size))
