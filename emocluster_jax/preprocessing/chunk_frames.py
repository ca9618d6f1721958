"""The frames of a long recording that end up in chunks, without computing the others."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from emocluster_jax.config import FeatureConfig, Features
from emocluster_jax.preprocessing.long_recordings import Read
from emocluster_jax.preprocessing.spectrogram import mel_spectrogram


class ChunkParts(NamedTuple):
    """What a recording's chunks are made of: samples, or frames that were given.

    Attributes:
      length: of the whole recording, in samples or frames.
      parts: the whole of it, or what each chunk takes of it, in the chunks' order.
    """

    length: int
    parts: list[Float[np.ndarray, " part *frame"]]


def signal_parts(read: Read, start: int, end: int, features: FeatureConfig) -> ChunkParts:
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
        return ChunkParts(samples, [read(start, end)])
    margin, hop = _margin(features), features.hop_size
    parts = []
    for i in range(features.chunks_per_utterance):
        first = max(i * step - margin, 0) * hop
        last = (i * step + features.chunk_frames - 1 + margin) * hop
        parts.append(read(start + first, min(start + last, end)))
    return ChunkParts(samples, parts)


def mel_of_parts(parts: ChunkParts, features: FeatureConfig) -> Float[np.ndarray, "time mel"]:
    """A spectrogram, power as float32, that `chunks.mel_chunks` cuts into the same chunks as the whole one.

    It is the whole one up to the duration from which chunks leave gaps. Of longer recordings it is the chunks' frames,
    one chunk after another: time and memory no longer grow with the duration.
    """
    if len(parts.parts) == 1:
        return mel_spectrogram(parts.parts[0], features)
    length, margin = features.chunk_frames, _margin(features)
    step = _step(parts.length, features)
    mel = np.empty((len(parts.parts), length, features.mel_bands), np.float32)
    for i, part in enumerate(parts.parts):
        mel[i] = mel_spectrogram(part, features)[min(i * step, margin) :][:length]
    return mel.reshape(-1, features.mel_bands)


def chunk_spans(parts: ChunkParts, features: FeatureConfig) -> Iterator[Float[np.ndarray, " span"]]:
    """For each chunk the samples that its frames see, half a window before the first one's centre to one behind the
    last one's, as far as the recording has them.
    """
    step, half_window = max(_step(parts.length, features), 0), features.fft_size // 2
    for i in range(features.chunks_per_utterance):
        first = i * step * features.hop_size
        last = first + (features.chunk_frames - 1) * features.hop_size
        is_whole = len(parts.parts) == 1
        part = parts.parts[0 if is_whole else i]
        begin = 0 if is_whole else max(i * step - _margin(features), 0) * features.hop_size
        yield part[max(first - half_window - begin, 0) : last + half_window - begin]


def frame_count(length: int, features: Features) -> int:
    """Frames of so many samples, or of so many frames that were given."""
    return length // features.hop_size + 1 if isinstance(features, FeatureConfig) else length


def _step(samples: int, features: FeatureConfig) -> int:
    """Frames from one chunk's beginning to the next one's."""
    return (frame_count(samples, features) - features.chunk_frames) // max(features.chunks_per_utterance - 1, 1)


def _margin(features: FeatureConfig) -> int:
    """Frames at a part's ends that would see zeros in place of their surroundings."""
    return -(-features.fft_size // (2 * features.hop_size))
