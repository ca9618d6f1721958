"""Recordings that are too long to be held in memory: read once for the peak, and once more for parts of the signal."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from emocluster_jax.config import DEFAULT_AUDIO, AudioConfig
from emocluster_jax.preprocessing.audio import AudioError, Condition, check_signal, peak_of, signal_blocks

HELD_S = 1800.0
"""Up to this duration a signal is held in memory: 115 MB at 16 kHz."""
LONGEST_S = 48 * 3600.0
"""A megabyte of FLAC may hold days of silence, which would take minutes to decode."""

Read = Callable[[int, int], Float[np.ndarray, " part *frame"]]
"""(start, end) -> samples, or given frames, from `start` up to, but not including, `end`. Where a start goes back, what
is not in memory is decoded once more."""


@dataclass(frozen=True)
class LongRecording:
    """A recording whose signal is not in memory.

    Attributes:
      path: where it lies.
      sample_rate_hz: of the signal, not of the file.
      audio: how the file's channels become one signal.
      mean: what is subtracted from the file's samples where `audio` says so.
      samples: length of the signal.
      peak: what the signal is divided by.
    """

    path: Path
    sample_rate_hz: int
    audio: AudioConfig
    mean: float
    samples: int
    peak: np.float32

    def __len__(self) -> int:
        return self.samples


def open_recording(
    path: Path, sample_rate_hz: int, audio: AudioConfig = DEFAULT_AUDIO, condition: Condition | None = None
) -> Float[np.ndarray, " samples"] | LongRecording:
    """Decodes a recording to its end; the signal is kept if it is no longer than `HELD_S`.

    Args:
      path: as of `audio.read_audio`.
      sample_rate_hz: rate of the signal.
      audio: how the file's channels become one signal.
      condition: filled in with what is noticed on the way.

    Returns:
      What `audio.read_audio` returns, or what says how to come by parts of it.

    Raises:
      AudioError: as of `audio.read_audio`, but for the longest duration, which is `LONGEST_S`.
    """
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


def reader(source: Float[np.ndarray, " time *frame"] | LongRecording) -> Read:
    """Reads parts: views of what is in memory, copies of what is not, which is decoded anew from its beginning."""
    return _Decoder(source).read if isinstance(source, LongRecording) else lambda start, end: source[start:end]


class _Decoder:
    """A recording on its way from its beginning to its end; a block and the part last asked for are in memory."""

    def __init__(self, recording: LongRecording) -> None:
        self._recording = recording
        self._begin()

    def _begin(self) -> None:
        recording = self._recording
        self._blocks = signal_blocks(
            recording.path, recording.sample_rate_hz, recording.audio, LONGEST_S, Condition(), recording.mean
        )
        self._start = 0
        self._held = np.zeros(0, np.float32)

    def read(self, start: int, end: int) -> Float[np.ndarray, " part"]:
        """Raises AudioError where the file has become shorter, or another, since it was opened."""
        if start < self._start:
            self._begin()
        while self._start + len(self._held) < end:
            block = next(self._blocks, None)
            if block is None:
                raise AudioError("changed while it was read")
            kept = self._held[max(start - self._start, 0) :]
            self._start += len(self._held) - len(kept)
            self._held = np.concatenate([kept, block / self._recording.peak])
        return self._held[start - self._start : end - self._start].copy()
