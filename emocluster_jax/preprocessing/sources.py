"""From a recording to frames, whatever the features are: by way of its samples, or as they were given.

What is read of a file is its source: (samples,) at `features.source_rate` for a mel spectrogram, (frames, dimensions)
for given features. Either can be cut along its first axis. A segment is cut out of its file's source, whose peak is the
whole file's, as a window is.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from jaxtyping import Float, Shaped

from emocluster_jax.config import DEFAULT_AUDIO, AudioConfig, FeatureConfig, Features
from emocluster_jax.errors import RecordingError
from emocluster_jax.preprocessing.audio import Condition, read_audio, to_mono_resampled
from emocluster_jax.preprocessing.chunk_frames import ChunkParts, mel_of_parts, signal_parts
from emocluster_jax.preprocessing.given_frames import checked_frames, read_frames
from emocluster_jax.preprocessing.long_recordings import LongRecording, Read, open_recording
from emocluster_jax.preprocessing.spectrogram import mel_spectrogram

_ROUNDING_S = 0.05
"""So far beyond its file's end a segment may end, and then ends with it: annotation goes by hundredths or by frames."""


def read_source(
    path: Path, features: Features, audio: AudioConfig = DEFAULT_AUDIO, condition: Condition | None = None
) -> Float[np.ndarray, " time *frame"]:
    """Reads a file's samples or frames, as float32.

    Args:
      path: the file.
      features: what it becomes.
      audio: how an audio file's channels become one signal.
      condition: filled in with what is noticed of an audio file.

    Raises:
      RecordingError: the file cannot be used.
    """
    if isinstance(features, FeatureConfig):
        return read_audio(path, features.sample_rate_hz, audio, condition)
    return read_frames(path, features)


def open_source(
    path: Path, features: Features, audio: AudioConfig = DEFAULT_AUDIO, condition: Condition | None = None
) -> Float[np.ndarray, " time *frame"] | LongRecording:
    """What `read_source` gives, or, of a recording that is too long to be held, what gives parts of it.

    Raises:
      RecordingError: the file cannot be used.
    """
    if isinstance(features, FeatureConfig):
        return open_recording(path, features.sample_rate_hz, audio, condition)
    return read_frames(path, features)


def as_source(
    array: Shaped[np.ndarray, " ..."], rate: float, features: Features, audio: AudioConfig = DEFAULT_AUDIO
) -> Float[np.ndarray, " time *frame"]:
    """What `read_source` would give, of samples or frames in memory at this rate.

    Raises:
      RecordingError: they cannot be used.
    """
    if isinstance(features, FeatureConfig):
        return to_mono_resampled(array, rate, features.sample_rate_hz, audio)
    return checked_frames(array, rate, features)


def segment_bounds(length: int, rate: float, start_s: float | None, end_s: float | None) -> tuple[int, int]:
    """Where a segment begins in its file's source, and where it ends.

    Args:
      length: of the source, in samples or frames.
      rate: its samples or frames per second.
      start_s: where the segment begins, in seconds; None for 0.
      end_s: where it ends; None for the file's end.

    Raises:
      RecordingError: its times are NaN, it begins before its file, ends more than 0.05 s beyond the file's end, or has
        no samples or frames.
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
    """A segment's part of its file's source: a view of it; a whole file's is the source.

    Raises:
      RecordingError: as of `segment_bounds`.
    """
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
    """What chunks need of a source from `start` up to, but not including, `end`: see `signal_parts`."""
    if isinstance(features, FeatureConfig):
        return signal_parts(read, start, end, features)
    return ChunkParts(end - start, [read(start, end)])


def frames_of_parts(parts: ChunkParts, features: Features) -> Float[np.ndarray, "frames dimensions"]:
    """Frames that are cut into the same chunks as all of them (`chunk_frames`), which may be more."""
    return mel_of_parts(parts, features) if isinstance(features, FeatureConfig) else parts.parts[0]
