"""From a recording to frames, whatever the features are: by way of its samples, or as they were given.

What is read of a file is its source: (samples,) at `features.source_rate` for a mel spectrogram, (frames, dimensions)
for given features. Either can be cut along its first axis.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from jaxtyping import Float, Shaped

from emocluster_jax.config import DEFAULT_AUDIO, AudioConfig, FeatureConfig, Features
from emocluster_jax.preprocessing.audio import Condition, read_audio, to_mono_resampled
from emocluster_jax.preprocessing.chunk_frames import ChunkParts, mel_of_parts, signal_parts
from emocluster_jax.preprocessing.given_frames import checked_frames, read_frames
from emocluster_jax.preprocessing.long_recordings import LongRecording, Read, open_recording
from emocluster_jax.preprocessing.spectrogram import mel_spectrogram


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
