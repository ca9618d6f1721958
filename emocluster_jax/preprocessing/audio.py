"""Recordings of any format, rate and channel count as mono signals with a peak of one."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import soundfile
import soxr
from jaxtyping import Float, Shaped

from emocluster_jax.config import DEFAULT_AUDIO, AudioConfig
from emocluster_jax.errors import RecordingError
from emocluster_jax.preprocessing.containers import declares_length, is_cut_short, is_known_container, is_npy

LOWEST_RATE_HZ = 1_000
HIGHEST_RATE_HZ = 768_000
LONGEST_S = 6 * 3600.0
"""What `read_audio` holds in memory at the most; six hours at 16 kHz are 1.4 GB."""
_BLOCK_SAMPLES = 1 << 18
_UNKNOWN_LENGTH = (1 << 36) - 1
"""FLAC's largest length; libsndfile gives this or more where a stream's header leaves the length open."""
_CUT_SHORT = "truncated: the file ends before its data do"


class AudioError(RecordingError):
    """Why audio cannot be used."""


@dataclass
class Condition:
    """What is noticed of a recording while it is decoded, and filled in as its blocks are drawn."""


def read_audio(
    path: Path, sample_rate_hz: int, audio: AudioConfig = DEFAULT_AUDIO, condition: Condition | None = None
) -> Float[np.ndarray, " samples"]:
    """Decodes a recording: one signal of its channels, resampled, divided by its peak.

    The file is decoded block by block, and what its header says of its length is never believed beforehand.

    Args:
      path: a file that libsndfile reads (wav, flac, mp3, ogg and others), of any sample rate and channel count.
      sample_rate_hz: rate of the result.
      audio: how its channels become one signal.
      condition: filled in with what is noticed on the way.

    Returns:
      Mono float32 with a largest absolute value of 1.

    Raises:
      AudioError: the file is missing, empty, truncated, no audio, silent, not finite, too long, or of an absurd rate.
    """
    return _finished(signal_blocks(path, sample_rate_hz, audio, LONGEST_S, condition or Condition()))


def signal_blocks(
    path: Path, sample_rate_hz: int, audio: AudioConfig, longest_s: float, condition: Condition
) -> Iterator[Float[np.ndarray, " samples"]]:
    """A recording's mono signal, resampled, block by block, before it is divided by its peak.

    Args:
      path: as of `read_audio`.
      sample_rate_hz: rate of the result.
      audio: how its channels become one signal.
      longest_s: a recording beyond is refused when that much has been read.
      condition: filled in with what is noticed on the way.

    Raises:
      AudioError: as of `read_audio`, as soon as it is known.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise AudioError("not a file")
        with path.open("rb") as file, _opened(path, file) as sound:
            blocks = _mono(_decoded(sound, declares_length(file)), audio, condition)
            yield from _resampled(blocks, sound.samplerate, sample_rate_hz, longest_s)
    except FileNotFoundError:
        raise AudioError("no such file") from None
    except OSError as error:
        raise AudioError(f"cannot be read: {(error.strerror or str(error)).lower()}") from None


def to_mono_resampled(
    signal: Shaped[np.ndarray, " samples"] | Shaped[np.ndarray, "channels samples"], rate: float, sample_rate_hz: int
) -> Float[np.ndarray, " resampled"]:
    """What `read_audio` does, for a signal that is decoded already.

    Args:
      signal: real samples of any scale, (samples,) or (channels, samples).
      rate: its sample rate in Hz.
      sample_rate_hz: rate of the result.

    Returns:
      Mono float32 with a largest absolute value of 1.

    Raises:
      AudioError: no samples, silent, not finite, too long, or of an absurd rate.
    """
    signal = np.asarray(signal)
    if signal.ndim not in (1, 2) or not np.issubdtype(signal.dtype, np.number) or np.iscomplexobj(signal):
        raise AudioError(
            f"expected real samples of shape (samples,) or (channels, samples), "
            f"found {signal.dtype} of shape {signal.shape}"
        )
    if signal.ndim == 2 and signal.shape[0] > signal.shape[1]:
        raise AudioError(f"{signal.shape[0]} channels of {signal.shape[1]} samples; transpose to (channels, samples)")
    mono = signal if signal.ndim == 1 or not signal.size else signal.mean(axis=0)
    return _finished(_resampled([mono.astype(np.float32).ravel()], rate, sample_rate_hz, LONGEST_S))


def _opened(path: Path, file: BinaryIO) -> _Unseeked:
    """The decoder of the open file at `path`, which is not empty, no text, and whole as far as its header tells."""
    if not file.read(1):
        raise AudioError("empty file")
    if is_cut_short(file):
        raise AudioError(_CUT_SHORT)
    try:
        # As bytes, since not every name is valid UTF-8; soundfile takes them, though its annotations do not say so.
        return _Unseeked(os.fsencode(path))  # type: ignore[arg-type]
    except (soundfile.SoundFileError, TypeError, ValueError):
        raise AudioError(_what_is_wrong(file)) from None


def _what_is_wrong(file: BinaryIO) -> str:
    """Of a file that libsndfile does not open."""
    if is_npy(file):
        return "features (.npy), and audio is expected"
    return "its header is damaged or truncated" if is_known_container(file) else "not audio"


class _Unseeked(soundfile.SoundFile):
    """A file that is read from its start to its end and never sought in.

    `soundfile` seeks after every block where it can. That makes libmpg123 lose its bit reservoir, so that the blocks
    of an MP3 file differ audibly from the whole, and fails on FLAC streams whose length is not in their header.
    """

    def seekable(self) -> bool:
        return False


def _decoded(sound: soundfile.SoundFile, length_is_declared: bool) -> Iterator[Float[np.ndarray, "samples channels"]]:
    """A file's samples, block by block; raises AudioError where less comes than the header promises."""
    block = max(_BLOCK_SAMPLES // sound.channels, 1)
    read = 0
    while True:
        try:
            samples = sound.read(block, dtype="float32", always_2d=True)
        except soundfile.SoundFileError:
            raise AudioError("truncated or damaged: decoding fails half-way") from None
        if not len(samples):
            break
        read += len(samples)
        yield samples
    if length_is_declared and read < sound.frames < _UNKNOWN_LENGTH:
        raise AudioError(_CUT_SHORT)


def _mono(
    blocks: Iterable[Float[np.ndarray, "samples channels"]], audio: AudioConfig, condition: Condition
) -> Iterator[Float[np.ndarray, " samples"]]:
    """One signal of the channels, block by block."""
    for samples in blocks:
        with np.errstate(over="ignore"):  # what becomes infinite is refused below
            mono = samples.mean(axis=1)
        yield mono


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


def check_signal(samples: int, peak: np.float32) -> None:
    """Raises AudioError for a signal that cannot be divided by its peak."""
    if not samples:
        raise AudioError("no samples")
    if peak == 0:
        raise AudioError("silent")
    if not np.isfinite(peak):
        raise AudioError("samples too large for float32")


def _finished(blocks: Iterable[Float[np.ndarray, " samples"]]) -> Float[np.ndarray, " samples"]:
    """Divided by the peak, after resampling: that is the peak of what is analysed, and what the reference holds."""
    signal = np.concatenate([np.zeros(0, np.float32), *blocks])
    peak = peak_of(signal)
    check_signal(len(signal), peak)
    signal /= peak
    return signal
