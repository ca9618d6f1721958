"""Recordings of any format, rate and channel count as mono signals with a peak of one."""

from __future__ import annotations

import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import soxr
from jaxtyping import Bool, Float, Shaped

from emocluster_jax.config import DEFAULT_AUDIO, AudioConfig
from emocluster_jax.preprocessing.decoding import decoded
from emocluster_jax.preprocessing.streams import AudioError, Decoded

LOWEST_RATE_HZ = 1_000
HIGHEST_RATE_HZ = 768_000
LONGEST_S = 6 * 3600.0
"""What `read_audio` holds in memory at the most; six hours at 16 kHz are 1.4 GB."""
_CLIPPED = 0.99
"""Of full scale: the least loud plateau that counts as clipped. The largest value of 8-bit samples is 0.992."""
_SHORTEST_CLIP = 3
_CANCELLED = 1e-3
"""Channels of opposite sign leave less of themselves than this; measured 3e-5 in 16-bit PCM, and 3e-6 in Opus."""


@dataclass
class Condition:
    """What is noticed of a recording while it is decoded, and filled in as its blocks are drawn.

    Attributes:
      cut: some of it is missing: less than 1 %, or as much as a recorder had not written when it stopped.
      clipped_samples: samples in runs of three or more equal ones, within a channel, at 0.99 of full scale or beyond.
        A peak that was not cut off has no such run, in PCM of 16 bits or more.
      mean: of the one signal that the channels become, before anything is subtracted; full scale is 1.
      peak: the largest absolute value of that signal.
      channels_peak: what the peak would be if no channel cancelled another.
    """

    cut: bool = False
    clipped_samples: int = 0
    mean: float = 0.0
    peak: float = 0.0
    channels_peak: float = 0.0

    @property
    def dc_offset(self) -> float:
        """The signal's mean as a share of its peak, from -1 to 1, whether or not it was subtracted."""
        return self.mean / self.peak if self.peak else 0.0

    @property
    def channels_cancel(self) -> bool:
        """Whether the mean of the channels leaves of them what rounding does, or a codec."""
        return self.peak < _CANCELLED * self.channels_peak


def read_audio(
    path: Path, sample_rate_hz: int, audio: AudioConfig = DEFAULT_AUDIO, condition: Condition | None = None
) -> Float[np.ndarray, " samples"]:
    """Decodes a recording: one signal of its channels, resampled, divided by its peak.

    The file is decoded block by block, and what its header says of its length is never believed beforehand.

    Args:
      path: a file that libsndfile reads (wav, flac, mp3, ogg and others), or PyAV where it is installed (m4a, webm, amr
        and others), of any sample rate and channel count.
      sample_rate_hz: rate of the result.
      audio: how its channels become one signal.
      condition: filled in with what is noticed on the way.

    Returns:
      Mono float32 with a largest absolute value of 1.

    Raises:
      AudioError: the file is missing, empty, truncated, no audio, silent, not finite, too long, of an absurd rate, or
        without the channel that is asked for.
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
    """A recording's mono signal, resampled, block by block, before it is divided by its peak.

    Args:
      path: as of `read_audio`.
      sample_rate_hz: rate of the result.
      audio: how its channels become one signal.
      longest_s: a recording beyond is refused when that much has been read.
      condition: filled in with what is noticed on the way.
      mean: `Condition.mean` of the recording, where `audio.remove_dc` subtracts it; None has it decoded once more for
        that, beforehand. It has to be subtracted before the resampling, in which a constant has edges.

    Raises:
      AudioError: as of `read_audio`, as soon as it is known.
    """
    if audio.remove_dc and mean is None:
        first = Condition()
        for _ in signal_blocks(path, sample_rate_hz, replace(audio, remove_dc=False), longest_s, first):
            pass
        mean = first.mean
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise AudioError("not a file")
        with path.open("rb") as file, decoded(path, file, audio.strict) as sound:
            blocks = _mono(_noting_cut(sound, condition), audio, condition, mean)
            yield from _resampled(blocks, sound.rate, sample_rate_hz, longest_s)
    except FileNotFoundError:
        raise AudioError("no such file") from None
    except OSError as error:
        raise AudioError(f"cannot be read: {(error.strerror or str(error)).lower()}") from None


def to_mono_resampled(
    signal: Shaped[np.ndarray, " samples"] | Shaped[np.ndarray, "channels samples"],
    rate: float,
    sample_rate_hz: int,
    audio: AudioConfig = DEFAULT_AUDIO,
) -> Float[np.ndarray, " resampled"]:
    """What `read_audio` does, for a signal that is decoded already.

    Args:
      signal: real samples, (samples,) or (channels, samples), of any scale: the result is divided by its peak. Integers
        are taken for PCM of their type's width: signed ones about 0, unsigned ones about the middle of their range, as
        8-bit WAVE files have them and `scipy.io.wavfile` reads them.
      rate: its sample rate in Hz.
      sample_rate_hz: rate of the result.
      audio: how its channels become one signal.

    Returns:
      Mono float32 with a largest absolute value of 1.

    Raises:
      AudioError: no samples, silent, not finite, too long, of an absurd rate, or without the channel that is asked for.
    """
    signal = np.asarray(signal)
    if signal.ndim not in (1, 2) or not np.issubdtype(signal.dtype, np.number) or np.iscomplexobj(signal):
        raise AudioError(
            f"expected real samples of shape (samples,) or (channels, samples), "
            f"found {signal.dtype} of shape {signal.shape}"
        )
    if signal.ndim == 2 and signal.shape[0] > signal.shape[1]:
        raise AudioError(f"{signal.shape[0]} channels of {signal.shape[1]} samples; transpose to (channels, samples)")
    channels = _unit_scaled(np.atleast_2d(signal)).T
    condition, mean = Condition(), None
    if audio.remove_dc:
        for _ in _mono([channels], audio, first := Condition()):
            pass
        mean = first.mean
    blocks = _mono([channels] if channels.size else [], audio, condition, mean)
    return _finished(_resampled(blocks, rate, sample_rate_hz, LONGEST_S), condition)


def _unit_scaled(samples: Shaped[np.ndarray, "channels samples"]) -> Float[np.ndarray, "channels samples"]:
    """Integers as float64 from -1 to 1; what is floating-point already stays as it is."""
    if not np.issubdtype(samples.dtype, np.integer):
        return samples
    half = 2.0 ** (8 * samples.dtype.itemsize - 1)
    return samples / half - np.issubdtype(samples.dtype, np.unsignedinteger)


def _noting_cut(decoded: Decoded, condition: Condition) -> Iterator[Float[np.ndarray, "samples channels"]]:
    missing = yield from decoded.blocks
    condition.cut = missing != 0


def _mono(
    blocks: Iterable[Float[np.ndarray, "samples channels"]],
    audio: AudioConfig,
    condition: Condition,
    mean: float | None = None,
) -> Iterator[Float[np.ndarray, " samples"]]:
    """One signal of the channels, block by block; `mean` is subtracted where `audio` says so, if it is known yet."""
    samples, total = 0, 0.0
    clipping = _Clipping()
    for block in blocks:
        if audio.channel is not None:
            if audio.channel > block.shape[1]:
                raise AudioError(f"no channel {audio.channel}: it has {block.shape[1]}")
            block = block[:, audio.channel - 1 : audio.channel]
        with np.errstate(over="ignore", invalid="ignore"):  # what becomes infinite is refused below
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
    """Counts clipped samples from block to block: `Condition.clipped_samples`."""

    def __init__(self) -> None:
        self._before: Float[np.ndarray, "few channels"] | None = None
        self._in_run: Bool[np.ndarray, " channels"] = np.zeros(1, bool)

    def count(self, block: Float[np.ndarray, "samples channels"]) -> int:
        """Those that are known to be clipped by now and were not before this block."""
        overlap = _SHORTEST_CLIP - 1
        if len(block) >= overlap and np.abs(block).max() < _CLIPPED:
            self._before, self._in_run = block[-overlap:], np.zeros(1, bool)
            return 0
        joined = block if self._before is None else np.concatenate([self._before, block])
        self._before = joined[-overlap:]
        starts = len(joined) - overlap
        if starts < 1:
            return 0
        # Where a run of the shortest length begins: a run of n samples has n - overlap such places.
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
        raise AudioError(f"a sample rate of {rate} Hz; expected {LOWEST_RATE_HZ} to {HIGHEST_RATE_HZ}")
    # soxr's stream gives bit for bit what it gives for the whole signal at once.
    stream = None if rate == sample_rate_hz else soxr.ResampleStream(rate, sample_rate_hz, 1, "float32", "HQ")
    seconds = 0.0
    for block in blocks:
        seconds += len(block) / rate
        if seconds > longest_s:
            raise AudioError(f"longer than {longest_s / 3600:g} hours")
        if not np.isfinite(block).all():
            raise AudioError("NaN or infinite samples")
        yield block if stream is None else stream.resample_chunk(block)
    if stream is not None:
        yield stream.resample_chunk(np.zeros(0, np.float32), last=True)


def peak_of(block: Float[np.ndarray, " samples"]) -> np.float32:
    """The largest absolute value; 0 of no samples, NaN where a sample is."""
    return np.abs(block).max(initial=np.float32(0))


def check_signal(samples: int, peak: np.float32, condition: Condition) -> None:
    """Raises AudioError for a signal that cannot be divided by its peak, or should not."""
    if not samples:
        raise AudioError("no samples")
    if condition.channels_cancel:
        raise AudioError("the channels cancel: their mean is silent; --channel first takes one of them")
    if peak == 0:
        raise AudioError("silent")
    if not np.isfinite(peak):
        raise AudioError("samples too large for float32")


def _finished(blocks: Iterable[Float[np.ndarray, " samples"]], condition: Condition) -> Float[np.ndarray, " samples"]:
    """Divided by the peak, after resampling: that is the peak of what is analysed, and what the reference holds."""
    signal = np.concatenate([np.zeros(0, np.float32), *blocks])
    peak = peak_of(signal)
    check_signal(len(signal), peak, condition)
    signal /= peak
    return signal
