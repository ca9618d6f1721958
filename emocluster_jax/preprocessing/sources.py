"""Frames of a recording for any kind of features: computed from its samples, or given.

A file's source is what is read from it: (samples,) at `features.source_rate` for a mel spectrogram, or given frames
(frames, dimensions). A segment is cut out of the source of its whole file, along the first axis, and so keeps the
file's peak. All functions raise RecordingError for what cannot be used.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from jaxtyping import Float, Shaped

from emocluster_jax.config import DEFAULT_AUDIO, AudioConfig, FeatureConfig, Features
from emocluster_jax.errors import RecordingError
from emocluster_jax.preprocessing.audio import Condition, read_audio, to_mono_resampled
from emocluster_jax.preprocessing.chunks import ChunkParts, mel_of_parts, signal_parts
from emocluster_jax.preprocessing.given_frames import checked_frames, read_frames
from emocluster_jax.preprocessing.long_recordings import LongRecording, Read, open_recording
from emocluster_jax.preprocessing.spectrogram import mel_spectrogram

_ROUNDING_S = 0.05
"""A segment may end this much after its file, and is then cut: annotations are rounded to hundredths or frames."""


def read_source(
    path: Path, features: Features, audio: AudioConfig = DEFAULT_AUDIO, condition: Condition | None = None
) -> Float[np.ndarray, " time *frame"]:
    """Reads a file's samples or frames, as float32; `audio` and `condition` are those of `read_audio`."""
    if isinstance(features, FeatureConfig):
        return read_audio(path, features.sample_rate_hz, audio, condition)
    return read_frames(path, features)


def open_source(
    path: Path, features: Features, audio: AudioConfig = DEFAULT_AUDIO, condition: Condition | None = None
) -> Float[np.ndarray, " time *frame"] | LongRecording:
    """Does the same as `read_source`, or returns a `LongRecording` if it is too long for memory."""
    if isinstance(features, FeatureConfig):
        return open_recording(path, features.sample_rate_hz, audio, condition)
    return read_frames(path, features)


def as_source(
    array: Shaped[np.ndarray, " ..."], rate: float, features: Features, audio: AudioConfig = DEFAULT_AUDIO
) -> Float[np.ndarray, " time *frame"]:
    """The source of samples or frames in memory, of which there are `rate` per second."""
    if isinstance(features, FeatureConfig):
        return to_mono_resampled(array, rate, features.sample_rate_hz, audio)
    return checked_frames(array, rate, features)


def segment_bounds(length: int, rate: float, start_s: float | None, end_s: float | None) -> tuple[int, int]:
    """Where a segment begins and ends in a source of this length and rate; None is the file's start or end.

    Raises:
      RecordingError: a time is NaN, or the segment begins before its file, ends more than 0.05 s after it, or is empty.
    """
    duration_s = length / rate
    start_s = 0.0 if start_s is None else start_s
    end_s = duration_s if end_s is None else end_s
    if start_s != start_s or end_s != end_s:
        raise RecordingError("the segment's start or end is NaN")
    if start_s < 0:
        raise RecordingError("the segment begins before its file does")
    if start_s > duration_s or end_s > duration_s + _ROUNDING_S:
        raise RecordingError("the segment reaches beyond the file's end")
    start, end = round(start_s * rate), min(round(end_s * rate), length)
    if start >= end:
        raise RecordingError("the segment is empty")
    return start, end


def cut_segment(
    source: Float[np.ndarray, " time *frame"], features: Features, start_s: float | None, end_s: float | None
) -> Float[np.ndarray, " segment *frame"]:
    """A view of a segment of its file's source, by the times of `segment_bounds`."""
    if start_s is None and end_s is None:
        return source
    start, end = segment_bounds(len(source), features.source_rate, start_s, end_s)
    return source[start:end]


def source_frames(
    source: Float[np.ndarray, " time *frame"], features: Features
) -> Float[np.ndarray, "frames dimensions"]:
    """All frames of a source."""
    return mel_spectrogram(source, features) if isinstance(features, FeatureConfig) else source


def chunk_parts(read: Read, start: int, end: int, features: Features) -> ChunkParts:
    """The parts that chunks need of a source from `start` up to, but not including, `end`: see `signal_parts`."""
    if isinstance(features, FeatureConfig):
        return signal_parts(read, start, end, features)
    return ChunkParts(end - start, [read(start, end)])


def frames_of_parts(parts: ChunkParts, features: Features) -> Float[np.ndarray, "frames dimensions"]:
    """Frames that are cut into the same chunks as all frames of the recording."""
    return mel_of_parts(parts, features) if isinstance(features, FeatureConfig) else parts.parts[0]
