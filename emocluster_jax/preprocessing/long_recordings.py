"""Recordings too long for memory: decoded once for the peak, and again for parts of the signal."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from emocluster_jax.config import DEFAULT_AUDIO, AudioConfig
from emocluster_jax.errors import RecordingError
from emocluster_jax.preprocessing.audio import Condition, check_signal, peak_of, signal_blocks

HELD_S = 1800.0
"""Signals up to this duration are kept in memory: 115 MB at 16 kHz."""
LONGEST_S = 48 * 3600.0
"""A megabyte of FLAC may hold days of silence, which would take minutes to decode."""

Read = Callable[[int, int], Float[np.ndarray, " part *frame"]]
"""(start, end) -> the samples, or given frames, from `start` up to, but not including, `end`. A start before the last
one makes it decode the recording again if it is not in memory."""


@dataclass(frozen=True)
class LongRecording:
    """A recording that is not held in memory.

    Attributes:
      path: its file.
      sample_rate_hz: of the signal, not of the file.
      audio: how the channels become one signal.
      mean: of the file's samples, which `audio` may have subtracted.
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
    """Does the same as `audio.read_audio` for recordings of up to `LONGEST_S`.

    Those longer than `HELD_S` are decoded but not kept: `reader` reads them.
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
    """Reads parts: views of an array in memory, or copies from a long recording, which is decoded again."""
    return _Decoder(source).read if isinstance(source, LongRecording) else lambda start, end: source[start:end]


class _Decoder:
    """Decodes a long recording from start to end; only one block and the last requested part are in memory."""

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
        """Raises RecordingError if the file was shortened or replaced since it was opened."""
        if start < self._start:
            self._begin()
        while self._start + len(self._held) < end:
            block = next(self._blocks, None)
            if block is None:
                raise RecordingError("changed while it was read")
            kept = self._held[max(start - self._start, 0) :]
            self._start += len(self._held) - len(kept)
            self._held = np.concatenate([kept, block / self._recording.peak])
        return self._held[start - self._start : end - self._start].copy()
