"""Decodes what libsndfile cannot, by FFmpeg's libraries and PyAV (extra `av`)."""

from __future__ import annotations

import importlib.util
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
from jaxtyping import Float

from emocluster_jax.errors import RecordingError
from emocluster_jax.preprocessing.file_contents import BLOCK_SAMPLES, Decoded
from emocluster_jax.preprocessing.formats import Format

if TYPE_CHECKING:
    import av.error
    from av.container import InputContainer

_DURATIONS = ("mp4", "matroska", "asf", "avi", "wv", "tta")
"""FFmpeg's names of formats that hold a duration; for others FFmpeg estimates it."""
_ROUNDED_S = 0.1
"""Containers round durations, and include what encoders add at both ends."""
_FAILS = "{}: FFmpeg cannot decode it, or it is truncated or damaged"


def is_installed() -> bool:
    return importlib.util.find_spec("av") is not None


@contextmanager
def av_decoded(file: BinaryIO, form: Format) -> Iterator[Decoded]:
    """The first audio track of an open file, decoded by FFmpeg.

    FFmpeg tries no other format than `form`: some would make it open other files and addresses.

    Raises:
      RecordingError: PyAV is not installed, or the file is damaged or has no audio track.
    """
    if not is_installed():
        raise RecordingError(f'{form.name} needs pip install "emocluster_jax[av]", or ffmpeg -i IN OUT.wav')
    import av.error

    file.seek(0)
    try:
        container = av.open(file, "r", format=form.ffmpeg_name, metadata_errors="replace")
    except (av.error.FFmpegError, ValueError):
        raise RecordingError(_FAILS.format(form.name)) from None
    with container:
        if not container.streams.audio:
            raise RecordingError(f"{form.name}: there is no sound in it")
        stream = container.streams.audio[0]
        if not stream.rate or not stream.codec_context.channels:
            raise RecordingError(_FAILS.format(form.name))
        yield Decoded(stream.rate, _blocks(container, stream, form))


def _blocks(
    container: InputContainer, stream: av.AudioStream, form: Format
) -> Generator[Float[np.ndarray, "samples channels"], None, float]:
    """The samples block by block; returns the share that is missing."""
    import av.error

    # Turns samples of any type into float32 from -1 to 1, one row per channel; rate and channels stay as they are.
    resampler = av.AudioResampler(format="fltp")
    rate, channels = stream.rate, stream.codec_context.channels
    held: list[np.ndarray] = []
    read = packets = 0
    try:
        for packet in container.demux(stream):
            packets += packet.size > 0
            for frame in packet.decode():
                if (frame.sample_rate, len(frame.layout.channels)) != (rate, channels):
                    raise RecordingError(f"{form.name}: the sample rate or the number of channels changes in it")
                held += [part.to_ndarray().T for part in resampler.resample(frame)]
                read += frame.samples
                if sum(map(len, held)) * channels >= BLOCK_SAMPLES:
                    yield np.concatenate(held)
                    held = []
    except av.error.FFmpegError:
        raise RecordingError(_FAILS.format(form.name)) from None
    if held:
        yield np.concatenate(held)
    return _missing(container, stream, form, packets, read / rate)


def _missing(container: InputContainer, stream: av.AudioStream, form: Format, packets: int, seconds: float) -> float:
    """Share of what the container promises that was not decoded."""
    if form.ffmpeg_name == "mp4" and stream.frames:
        return max(stream.frames - packets, 0) / stream.frames
    promised = (container.duration or 0) / 1_000_000 if form.ffmpeg_name in _DURATIONS else 0.0
    return max(promised - seconds, 0) / promised if promised > seconds + _ROUNDED_S else 0.0
