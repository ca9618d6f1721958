"""Recordings as sound inside a page."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import numpy as np
import soundfile

from emocluster_jax.config import AudioConfig
from emocluster_jax.errors import RecordingError
from emocluster_jax.preprocessing.audio import read_audio
from emocluster_jax.preprocessing.sources import segment_bounds

RATE_HZ = 16_000
_COMPRESSION = 0.8
"""Of libsndfile's 0 to 1: about 5 KB a second of speech at this rate."""
_FADE_S = 0.05


class NoClipError(Exception):
    """Why a recording cannot be played, in a few words."""


def audio_clip(
    path: Path, seconds: float, audio: AudioConfig, start_s: float | None = None, end_s: float | None = None
) -> str:
    """The beginning of a recording as a `data:` URI of MP3, which every browser plays.

    Args:
      path: a file of any format.
      seconds: how much of the recording at most.
      audio: how the file's channels become one signal.
      start_s: where the recording begins in its file, in seconds; None for 0.
      end_s: where it ends; None for the file's end.

    Raises:
      NoClipError: the recording is not there, or cannot be decoded.
    """
    try:
        signal = read_audio(path, RATE_HZ, audio)
        start, end = segment_bounds(len(signal), RATE_HZ, start_s, end_s)
    except RecordingError as error:
        raise NoClipError(str(error)) from None
    signal = signal[start:end]
    count = round(seconds * RATE_HZ)
    if len(signal) > count:
        signal = signal[:count] * np.clip(np.arange(count, 0, -1) / (_FADE_S * RATE_HZ), 0, 1)
    file = io.BytesIO()
    # Peaks below one: what MP3 leaves out can make them higher.
    soundfile.write(file, 0.9 * signal, RATE_HZ, format="MP3", compression_level=_COMPRESSION)
    return "data:audio/mpeg;base64," + base64.b64encode(file.getvalue()).decode("ascii")
