"""What is read from a recording's file: a signal, from which frames are computed, or given frames.

A file's source is (samples,) at `features.source_rate`, or given frames (frames, dimensions). A signal too long for
memory is decoded once for its peak, and again for parts of it. A segment is cut out of its whole file's source, along
the first axis, and so keeps the file's peak. All functions raise RecordingError for what cannot be used.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, Shaped

from emocluster_jax.config import DEFAULT_AUDIO, AudioConfig, FeatureConfig, Features, GivenFeatures
from emocluster_jax.errors import RecordingError
from emocluster_jax.preprocessing.audio import (
    Condition,
    check_signal,
    peak_of,
    read_audio,
    signal_blocks,
    to_mono_resampled,
)
from emocluster_jax.preprocessing.front_ends import all_frames
from emocluster_jax.preprocessing.given_frames import checked_frames, read_array
from emocluster_jax.preprocessing.spectrogram import mel_spectrogram

HELD_S = 1800.0
"""Signals up to this duration are kept in memory: 115 MB at 16 kHz."""
LONGEST_S = 48 * 3600.0
"""A megabyte of FLAC may hold days of silence, which would take minutes to decode."""

Read = Callable[[int, int], Float[np.ndarray, " part *frame"]]
"""(start, end) -> the samples, or given frames, from `start` up to, but not including, `end`. A start before the last
one makes it decode a long recording again."""
_ROUNDING_S = 0.05
"""A segment may end this much after its file, and is then cut: annotations are rounded to hundredths or frames."""


def read_source(
    path: Path, features: Features, audio: AudioConfig = DEFAULT_AUDIO, condition: Condition | None = None
) -> Float[np.ndarray, " time *frame"]:
    """A file's samples or frames, as float32; `audio` and `condition` are those of `read_audio`."""
    if isinstance(features, GivenFeatures):
        return read_array(path, features.dimensions, features.frames_per_second)
    return read_audio(path, features.sample_rate_hz, audio, condition)


@dataclass(frozen=True)
class LongRecording:
    """A recording that is not held in memory."""

    path: Path
    sample_rate_hz: int  # of the signal, not of the file
    audio: AudioConfig
    mean: float  # of the file's samples, which `audio` may have subtracted
    samples: int
    peak: np.float32  # what the signal is divided by

    def __len__(self) -> int:
        return self.samples


def open_source(
    path: Path, features: Features, audio: AudioConfig = DEFAULT_AUDIO, condition: Condition | None = None
) -> Float[np.ndarray, " time *frame"] | LongRecording:
    """What `read_source` reads, up to `LONGEST_S`; a signal longer than `HELD_S` is decoded but not kept."""
    if isinstance(features, GivenFeatures):
        return read_array(path, features.dimensions, features.frames_per_second)
    sample_rate_hz = features.sample_rate_hz
    samples, peak = 0, np.float32(0)
    held = []
    condition = condition or Condition()
    for block in signal_blocks(path, sample_rate_hz, audio, LONGEST_S, condition):
        samples += len(block)
        peak = np.maximum(peak, peak_of(block))
        held.append(block)
        if samples > HELD_S * sample_rate_hz:
            held.clear()
    check_signal(samples, peak, condition)
    if samples > HELD_S * sample_rate_hz:
        return LongRecording(path, sample_rate_hz, audio, condition.mean, samples, peak)
    signal = np.concatenate(held)
    signal /= peak
    return signal


def as_source(
    array: Shaped[np.ndarray, " ..."], rate: float, features: Features, audio: AudioConfig = DEFAULT_AUDIO
) -> Float[np.ndarray, " time *frame"]:
    """What `read_source` reads, for samples or frames in memory, of which there are `rate` per second."""
    if isinstance(features, GivenFeatures):
        return checked_frames(array, rate, features)
    return to_mono_resampled(array, rate, features.sample_rate_hz, audio)


def segment_bounds(length: int, rate: float, start_s: float | None, end_s: float | None) -> tuple[int, int]:
    """Where a segment begins and ends in a source of this length and rate; None is the file's start or end.

    RecordingError for NaN, and for a segment that begins before its file, ends more than 0.05 s after it, or is empty.
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
    start, end = segment_bounds(len(source), features.source_rate, start_s, end_s)
    return source[start:end]


def source_frames(
    source: Float[np.ndarray, " time *frame"], features: Features
) -> Float[np.ndarray, "frames dimensions"]:
    """All frames of a recording in memory; RecordingError if a front end cannot make any of it."""
    if isinstance(features, FeatureConfig):
        return mel_spectrogram(source, features)
    return source if isinstance(features, GivenFeatures) else all_frames(source, features)


def reader(source: Float[np.ndarray, " time *frame"] | LongRecording) -> Read:
    """Reads parts: views of an array in memory, or copies from a long recording."""
    return _Decoder(source).read if isinstance(source, LongRecording) else lambda start, end: source[start:end]


class _Decoder:
    """Decodes a long recording from start to end; only one block and the last requested part are in memory."""

    def __init__(self, recording: LongRecording) -> None:
        self._recording = recording
        self._start = sys.maxsize  # nothing is decoded yet

    def read(self, start: int, end: int) -> Float[np.ndarray, " part"]:
        """Raises RecordingError if the file was shortened or replaced since it was opened."""
        its = self._recording
        if start < self._start:
            self._blocks = signal_blocks(its.path, its.sample_rate_hz, its.audio, LONGEST_S, Condition(), its.mean)
            self._start, self._held = 0, np.zeros(0, np.float32)
        while self._start + len(self._held) < end:
            block = next(self._blocks, None)
            if block is None:
                raise RecordingError("changed while it was read")
            kept = self._held[max(start - self._start, 0) :]
            self._start += len(self._held) - len(kept)
            self._held = np.concatenate([kept, block / its.peak])
        return self._held[start - self._start : end - self._start].copy()
