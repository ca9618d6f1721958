"""Cuts a recording of any duration into the same number of chunks, without computing the frames between them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from emocluster_jax.config import FeatureConfig, Features, FrontEndFeatures, GivenFeatures
from emocluster_jax.preprocessing.front_ends import Part, count_frames, part_frames, parts_of
from emocluster_jax.preprocessing.normalization import Statistics, normalize
from emocluster_jax.preprocessing.sources import Read, source_frames
from emocluster_jax.preprocessing.spectrogram import mel_spectrogram


class ChunkParts(NamedTuple):
    """Samples or given frames that a recording's chunks are made of."""

    length: int  # of the whole recording
    # the whole recording, each chunk's part of it, or those of a front end's parts that chunks lie in; in order
    parts: list[Float[np.ndarray, " part *frame"]]


def split_chunks(
    mel: Float[np.ndarray, "time mel"], chunk_frames: int, count: int
) -> Float[np.ndarray, "chunks frames mel"]:
    """Cuts `count` evenly spread chunks of `chunk_frames` frames, which overlap or leave gaps by the duration.

    Chunk i begins at frame i * floor((T - chunk_frames) / (count - 1)), so the last one ends up to count - 2 frames
    before the recording does. Shorter recordings are padded at the end with 0, the mean of normalised features; all of
    their chunks are the same.

    Source: Lin & Busso, "An efficient temporal modeling approach for speech emotion recognition by mapping varied
    duration sentences into fixed number of chunks", Interspeech 2020.
    """
    if len(mel) < chunk_frames:
        mel = np.pad(mel, ((0, chunk_frames - len(mel)), (0, 0)))
    step = (len(mel) - chunk_frames) // max(count - 1, 1)
    return np.stack([mel[i * step : i * step + chunk_frames] for i in range(count)])


def mel_chunks(
    mel: Float[np.ndarray, "time mel"], features: Features, statistics: Statistics
) -> Float[np.ndarray, "chunks frames mel"]:
    """Normalised chunks of a spectrogram, or of other frames, as float32."""
    normalized = normalize(mel, statistics, features.clip)
    return split_chunks(normalized, features.chunk_frames, features.chunks_per_utterance)


def chunk_parts(read: Read, start: int, end: int, features: Features) -> ChunkParts:
    """Reads the parts that chunks need of a source from `start` up to, but not including, `end`.

    That is all of it for given frames, for a spectrogram's signal too short for gaps between chunks (up to 11 s with
    the default settings), and for one that is a single part to a front end. RecordingError for a signal that is too
    short for a front end's frame.
    """
    length = end - start
    if isinstance(features, FrontEndFeatures):
        needed = _parts_with_chunks(length, features)
        return ChunkParts(length, [read(start + part.start, start + part.end) for part in needed])
    if isinstance(features, GivenFeatures) or (step := chunk_step(length, features)) <= features.chunk_frames:
        return ChunkParts(length, [read(start, end)])
    margin, hop = _margin(features), features.hop_size
    parts = []
    for i in range(features.chunks_per_utterance):
        first = max(i * step - margin, 0) * hop
        last = (i * step + features.chunk_frames - 1 + margin) * hop
        parts.append(read(start + first, min(start + last, end)))
    return ChunkParts(length, parts)


def frames_of_parts(parts: ChunkParts, features: Features) -> Float[np.ndarray, "frames dimensions"]:
    """Frames, float32, that `mel_chunks` cuts into the chunks of the whole recording.

    Of recordings with gaps between chunks it has only the chunks' frames, one chunk after another, so that time and
    memory do not grow with the duration.
    """
    if isinstance(features, FrontEndFeatures):
        return _frames_of_front_end(parts, features)
    if len(parts.parts) == 1 or isinstance(features, GivenFeatures):
        return source_frames(parts.parts[0], features)
    length, margin, step = features.chunk_frames, _margin(features), chunk_step(parts.length, features)
    mel = np.empty((len(parts.parts), length, features.mel_bands), np.float32)
    for i, part in enumerate(parts.parts):
        mel[i] = mel_spectrogram(part, features)[min(i * step, margin) :][:length]
    return mel.reshape(-1, features.mel_bands)


def _frames_of_front_end(parts: ChunkParts, features: FrontEndFeatures) -> Float[np.ndarray, "frames dimensions"]:
    needed = _parts_with_chunks(parts.length, features)
    made = [part_frames(samples, part, features) for part, samples in zip(needed, parts.parts, strict=True)]
    if len(parts_of(parts.length, features)) == 1:
        return made[0]
    length = features.chunk_frames
    chunks = np.empty((features.chunks_per_utterance, length, features.dimensions), np.float32)
    for chunk, start in zip(chunks, _chunk_starts(parts.length, features), strict=True):
        for part, frames in zip(needed, made, strict=True):
            first, last = max(part.first, start), min(part.last, start + length)
            if first < last:
                chunk[first - start : last - start] = frames[first - part.first : last - part.first]
    return chunks.reshape(-1, features.dimensions)


def _parts_with_chunks(samples: int, features: FrontEndFeatures) -> list[Part]:
    """Those of a recording's parts that have frames of its chunks."""
    starts, length = _chunk_starts(samples, features), features.chunk_frames
    parts = parts_of(samples, features)
    return [part for part in parts if any(part.first < start + length and start < part.last for start in starts)]


def _chunk_starts(samples: int, features: FrontEndFeatures) -> list[int]:
    """The first frame of each chunk."""
    step = chunk_step(samples, features)
    return [i * step for i in range(features.chunks_per_utterance)]


def chunk_spans(parts: ChunkParts, features: FeatureConfig | FrontEndFeatures) -> Iterator[Float[np.ndarray, " span"]]:
    """Each chunk's samples: all that its frames are of, as far as there are any."""
    if isinstance(features, FrontEndFeatures):
        needed, hop = _parts_with_chunks(parts.length, features), features.hop_size
        for start in _chunk_starts(parts.length, features):
            # The context of the part that it begins in has the rest of it.
            i, part = next((i, part) for i, part in enumerate(needed) if part.first <= start < part.last)
            first = start * hop - part.start
            yield parts.parts[i][first : first + (features.chunk_frames - 1) * hop + features.window_size]
        return
    step, half_window = chunk_step(parts.length, features), features.fft_size // 2
    for i in range(features.chunks_per_utterance):
        first = i * step * features.hop_size
        last = first + (features.chunk_frames - 1) * features.hop_size
        is_whole = len(parts.parts) == 1
        part = parts.parts[0 if is_whole else i]
        begin = 0 if is_whole else max(i * step - _margin(features), 0) * features.hop_size
        yield part[max(first - half_window - begin, 0) : last + half_window - begin]


def frame_count(length: int, features: Features) -> int:
    """The number of frames of a recording of this length, in samples or given frames."""
    if isinstance(features, FrontEndFeatures):
        return count_frames(length, features)
    return length if isinstance(features, GivenFeatures) else length // features.hop_size + 1


def chunk_step(length: int, features: Features) -> int:
    """Frames from the start of one chunk to the start of the next, of a recording of this length, in samples or given
    frames."""
    between = max(frame_count(length, features) - features.chunk_frames, 0)
    return between // max(features.chunks_per_utterance - 1, 1)


def _margin(features: FeatureConfig) -> int:
    """Frames at each end of a part that would see zeros instead of the rest of the recording."""
    return -(-features.fft_size // (2 * features.hop_size))
