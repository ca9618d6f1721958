"""Recordings of any format, sample rate and channel count as mono signals with a peak of one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, Shaped

from emocluster_jax.config import DEFAULT_AUDIO, AudioConfig
from emocluster_jax.errors import RecordingError
from emocluster_jax.preprocessing.file_contents import Blocks, opened

LOWEST_RATE_HZ = 1_000
HIGHEST_RATE_HZ = 768_000
LONGEST_S = 6 * 3600.0
"""The longest recording that `read_audio` holds in memory; six hours at 16 kHz are 1.4 GB."""
_CLIPPED = 0.99
"""The share of full scale from which plateaus count as clipped; the largest value of 8-bit samples is 0.992."""
_SHORTEST_CLIP = 3
_CANCELLED = 1e-3
"""Channels that cancel leave less than this share, of rounding errors or a codec's noise; measured 3e-5 in 16-bit PCM,
and 3e-6 in Opus."""


@dataclass
class Condition:
    """The condition of a recording, filled in block by block while it is decoded."""

    cut: bool = False
    """Whether some of it is missing: less than 1 %, or what a recorder had not written when it stopped."""
    clipped_samples: int = 0
    """In runs of three or more equal ones, within a channel, at 0.99 of full scale or beyond: an intact peak has no
    such run in PCM of 16 bits or more."""
    mean: float = 0.0
    """Of the mono signal before anything is subtracted; full scale is 1."""
    peak: float = 0.0
    """The largest absolute value of that signal."""
    channels_peak: float = 0.0
    """The peak if no channel cancelled another."""

    @property
    def dc_offset(self) -> float:
        """The mean as a share of the peak, from -1 to 1, even if it was subtracted."""
        return self.mean / self.peak if self.peak else 0.0


def read_audio(
    path: Path, sample_rate_hz: int, audio: AudioConfig = DEFAULT_AUDIO, condition: Condition | None = None
) -> Float[np.ndarray, " samples"]:
    """Reads a recording as one float32 signal: its channels combined, resampled, divided by the peak.

    The file is one that libsndfile reads (wav, flac, mp3, ogg and others), or PyAV if it is installed (m4a, webm, amr
    and others). It is decoded block by block, without trusting the length in its header; `condition` is filled in.

    Raises:
      RecordingError: the file is missing, empty, truncated, not audio, silent, not finite, too long, of an absurd rate,
        or without the requested channel.
    """
    condition = condition or Condition()
    return _finished(signal_blocks(path, sample_rate_hz, audio, LONGEST_S, condition), condition)


def signal_blocks(
    path: Path,
    sample_rate_hz: int,
    audio: AudioConfig,
    longest_s: float,
    condition: Condition,
    mean: float | None = None,
) -> Iterator[Float[np.ndarray, " samples"]]:
    """What `read_audio` reads, block by block, before it is divided by its peak.

    Args:
      longest_s: longer recordings are refused as soon as that much was read.
      mean: the recording's `Condition.mean`, for `audio.remove_dc`, subtracted before resampling, which would distort
        the ends of a constant. If it is None, the recording is decoded once more to find it.
    """
    from emocluster_jax.preprocessing.decoding import decoded  # libsndfile, without which signals can be predicted

    if audio.remove_dc and mean is None:
        first = Condition()
        for _ in signal_blocks(path, sample_rate_hz, replace(audio, remove_dc=False), longest_s, first):
            pass
        mean = first.mean
    with opened(path) as file, decoded(path, file, audio.strict) as (rate, blocks):
        mono = _mono(_noting_cut(blocks, condition), audio, condition, mean)
        yield from _resampled(mono, rate, sample_rate_hz, longest_s)


def to_mono_resampled(
    signal: Shaped[np.ndarray, " samples"] | Shaped[np.ndarray, "channels samples"],
    rate: float,
    sample_rate_hz: int,
    audio: AudioConfig = DEFAULT_AUDIO,
) -> Float[np.ndarray, " resampled"]:
    """What `read_audio` does, for a decoded signal at `rate` Hz.

    Its samples are real numbers of any scale. Integers are taken for PCM of their type's width: signed ones around 0,
    unsigned ones around the middle of their range, as in 8-bit WAVE files and from `scipy.io.wavfile`.
    """
    signal = np.asarray(signal)
    if signal.ndim not in (1, 2) or not np.issubdtype(signal.dtype, np.number) or np.iscomplexobj(signal):
        raise RecordingError(
            f"expected real samples of shape (samples,) or (channels, samples), "
            f"found {signal.dtype} of shape {signal.shape}"
        )
    if signal.ndim == 2 and signal.shape[0] > signal.shape[1]:
        raise RecordingError(
            f"{signal.shape[0]} channels of {signal.shape[1]} samples; transpose to (channels, samples)"
        )
    channels = np.atleast_2d(signal).T
    if np.issubdtype(signal.dtype, np.integer):
        channels = channels / 2.0 ** (8 * signal.itemsize - 1) - np.issubdtype(signal.dtype, np.unsignedinteger)
    blocks = [channels] if channels.size else []
    first, condition = Condition(), Condition()
    if audio.remove_dc:
        list(_mono(blocks, audio, first))  # to find the mean
    mono = _mono(blocks, audio, condition, first.mean)
    return _finished(_resampled(mono, rate, sample_rate_hz, LONGEST_S), condition)


def _noting_cut(blocks: Blocks, condition: Condition) -> Iterator[Float[np.ndarray, "samples channels"]]:
    missing = yield from blocks
    condition.cut = missing != 0


def _mono(
    blocks: Iterable[Float[np.ndarray, "samples channels"]],
    audio: AudioConfig,
    condition: Condition,
    mean: float | None = None,
) -> Iterator[Float[np.ndarray, " samples"]]:
    """The mono signal, block by block; `mean` is subtracted if `audio` asks for it and it is known."""
    samples, total = 0, 0.0
    clipping = _Clipping()
    for block in blocks:
        if audio.channel is not None:
            if audio.channel > block.shape[1]:
                raise RecordingError(f"no channel {audio.channel}: it has {block.shape[1]}")
            block = block[:, audio.channel - 1 : audio.channel]
        with np.errstate(over="ignore", invalid="ignore"):  # infinite values are refused below
            mono = block.mean(axis=1).astype(np.float32, copy=False)
            samples += len(mono)
            total += float(mono.sum(dtype=np.float64))
            peak = float(peak_of(mono))
            without_signs = float(np.abs(block).mean(axis=1).max(initial=0)) if block.shape[1] > 1 else peak
        condition.mean = total / max(samples, 1)
        condition.peak = max(condition.peak, peak)
        condition.channels_peak = max(condition.channels_peak, without_signs)
        condition.clipped_samples += clipping.count(block)
        yield mono - np.float32(mean) if audio.remove_dc and mean is not None else mono


class _Clipping:
    """Counts `Condition.clipped_samples` from block to block."""

    def __init__(self) -> None:
        self._before: Float[np.ndarray, "few channels"] | None = None
        self._in_run: Bool[np.ndarray, " channels"] = np.zeros(1, bool)

    def count(self, block: Float[np.ndarray, "samples channels"]) -> int:
        """How many more clipped samples are known after this block."""
        overlap = _SHORTEST_CLIP - 1
        if len(block) >= overlap and np.abs(block).max() < _CLIPPED:
            self._before, self._in_run = block[-overlap:], np.zeros(1, bool)
            return 0
        joined = block if self._before is None else np.concatenate([self._before, block])
        self._before = joined[-overlap:]
        starts = len(joined) - overlap
        if starts < 1:
            return 0
        # Places where a run of the shortest length begins: a run of n samples has n - overlap of them.
        begins = np.abs(joined[:starts]) >= _CLIPPED
        for i in range(1, _SHORTEST_CLIP):
            begins &= joined[i : starts + i] == joined[:starts]
        is_first = begins[0] & ~self._in_run
        runs = int(is_first.sum() + (begins[1:] & ~begins[:-1]).sum())
        self._in_run = begins[-1]
        return int(begins.sum()) + overlap * runs


def _resampled(
    blocks: Iterable[Float[np.ndarray, " samples"]], rate: float, sample_rate_hz: int, longest_s: float
) -> Iterator[Float[np.ndarray, " resampled"]]:
    if not LOWEST_RATE_HZ <= rate <= HIGHEST_RATE_HZ:
        raise RecordingError(f"a sample rate of {rate} Hz; expected {LOWEST_RATE_HZ} to {HIGHEST_RATE_HZ}")
    stream = None
    if rate != sample_rate_hz:
        import soxr

        # A stream gives the same bits as resampling the whole signal at once.
        stream = soxr.ResampleStream(rate, sample_rate_hz, 1, "float32", "HQ")
    seconds = 0.0
    for block in blocks:
        seconds += len(block) / rate
        if seconds > longest_s:
            raise RecordingError(f"longer than {longest_s / 3600:g} hours")
        if not np.isfinite(block).all():
            raise RecordingError("NaN or infinite samples")
        yield block if stream is None else stream.resample_chunk(block)
    if stream is not None:
        yield stream.resample_chunk(np.zeros(0, np.float32), last=True)


def peak_of(block: Float[np.ndarray, " samples"]) -> np.float32:
    """The largest absolute value; 0 for no samples, NaN if one of them is NaN."""
    return np.abs(block).max(initial=np.float32(0))


def check_signal(samples: int, peak: np.float32, condition: Condition) -> None:
    """Raises RecordingError for a signal that cannot, or should not, be divided by its peak."""
    if not samples:
        raise RecordingError("no samples")
    if condition.peak < _CANCELLED * condition.channels_peak:
        raise RecordingError("the channels cancel: their mean is silent; `channel=first` takes one of them")
    if peak == 0:
        raise RecordingError("silent")
    if not np.isfinite(peak):
        raise RecordingError("samples too large for float32")


def _finished(blocks: Iterable[Float[np.ndarray, " samples"]], condition: Condition) -> Float[np.ndarray, " samples"]:
    """The whole signal divided by its peak after resampling, as in the reference."""
    signal = np.concatenate([np.zeros(0, np.float32), *blocks])
    peak = peak_of(signal)
    check_signal(len(signal), peak, condition)
    signal /= peak
    return signal
