"""From a recording of any duration to the same number of chunks, without computing the frames between them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from emocluster_jax.config import FeatureConfig, Features
from emocluster_jax.preprocessing.long_recordings import Read
from emocluster_jax.preprocessing.normalization import FeatureStatistics, normalize
from emocluster_jax.preprocessing.spectrogram import mel_spectrogram


class ChunkParts(NamedTuple):
    """What a recording's chunks are made of: samples, or given frames.

    Attributes:
      length: of the whole recording, in samples or frames.
      parts: the whole of it, or each chunk's part of it, in the chunks' order.
    """

    length: int
    parts: list[Float[np.ndarray, " part *frame"]]


def split_chunks(
    mel: Float[np.ndarray, "time mel"], chunk_frames: int, count: int
) -> Float[np.ndarray, "chunks frames mel"]:
    """Cuts `count` evenly spread chunks of `chunk_frames` frames, which overlap or leave gaps as the duration requires.

    Chunk i begins at frame i * floor((T - chunk_frames) / (count - 1)), so the last one ends up to count - 2 frames
    before the recording does. Shorter recordings are padded at the end with 0, which is the mean of normalised
    features; all of their chunks are the same.

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


def signal_parts(read: Read, start: int, end: int, features: FeatureConfig) -> ChunkParts:
    """Reads what chunks need of a signal from `start` up to, but not including, `end`, as if there were nothing else.

    That is all of it up to the duration from which chunks leave gaps (11 s with the default settings).
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
    """A spectrogram, power as float32, that `mel_chunks` cuts into the same chunks as that of the whole recording.

    It is that of the whole recording up to the duration from which chunks leave gaps. For longer ones it is the chunks'
    frames, one chunk after another, so that time and memory stop growing with the duration.
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
    """Each chunk's samples, as far as the recording has them.

    They reach from half a window before the centre of the chunk's first frame to half a window after its last one's.
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
    """How many frames so many samples, or given frames, have."""
    return length // features.hop_size + 1 if isinstance(features, FeatureConfig) else length


def _step(samples: int, features: FeatureConfig) -> int:
    """Frames from the beginning of one chunk to that of the next."""
    return (frame_count(samples, features) - features.chunk_frames) // max(features.chunks_per_utterance - 1, 1)


def _margin(features: FeatureConfig) -> int:
    """Frames at the ends of a part that would see zeros where the recording goes on."""
    return -(-features.fft_size // (2 * features.hop_size))
