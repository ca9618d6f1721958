"""The most typical recordings of each cluster, as sound inside a page."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from emocluster_jax.config import AudioConfig
from emocluster_jax.console import Console
from emocluster_jax.corpora.segments import find_recording
from emocluster_jax.errors import RecordingError
from emocluster_jax.preprocessing.audio import read_audio
from emocluster_jax.preprocessing.sources import segment_bounds
from emocluster_jax.reporting.html.rendering import data_uri
from emocluster_jax.reporting.html.sample import Sample, SampledRecording

RATE_HZ = 16_000
_COMPRESSION = 0.8
"""Of libsndfile's 0 to 1: about 5 KB per second of speech at this rate."""
_FADE_S = 0.05


@dataclass(frozen=True)
class Clip:
    """A recording to listen to, as a `data:` URI, or the reason why it cannot be played."""

    recording: SampledRecording
    audio: str | None
    reason: str = ""

    @property
    def details(self) -> str:
        """What is known of the recording, in one line."""
        return " · ".join(self.recording.details)


@dataclass(frozen=True)
class TypicalRecordings:
    """A cluster, how many of a sample's recordings are in it, and those nearest to its centroid, nearest first."""

    cluster: int
    recordings: int
    clips: tuple[Clip, ...]


def typical_recordings(
    sample: Sample, source: Path, audio: AudioConfig, clips: int, seconds: float, console: Console
) -> tuple[TypicalRecordings, ...]:
    """The recordings of a sample nearest to each centroid, among those in its cluster.

    Args:
      sample: recordings with the model's results.
      source: the folder that the recordings' ids are relative to.
      audio: how they were prepared.
      clips: the most recordings per cluster.
      seconds: the most of each recording.
      console: shows progress.
    """
    if sample.centroids is None or not sample.recordings or clips == 0:
        return ()
    members = [
        sorted((r for r in sample.recordings if r.cluster == cluster), key=lambda r: (r.distance, r.id))
        for cluster in range(len(sample.centroids))
    ]
    with console.task("embedding audio", sum(min(clips, len(recordings)) for recordings in members)) as task:

        def clip(recording: SampledRecording) -> Clip:
            task.advance()
            place = find_recording(source, recording.id)
            if place is None:
                return Clip(recording, None, "its id leads out of the folder of the recordings")
            path, start_s, end_s = place
            try:
                return Clip(recording, _audio_clip(path, seconds, audio, start_s, end_s))
            except RecordingError as error:
                return Clip(recording, None, str(error))

        return tuple(
            TypicalRecordings(cluster, len(recordings), tuple(clip(recording) for recording in recordings[:clips]))
            for cluster, recordings in enumerate(members)
        )


def _audio_clip(path: Path, seconds: float, audio: AudioConfig, start_s: float | None, end_s: float | None) -> str:
    """At most the first `seconds` of a recording as a `data:` URI of MP3, which every browser plays."""
    signal = read_audio(path, RATE_HZ, audio)
    start, end = segment_bounds(len(signal), RATE_HZ, start_s, end_s)
    signal = signal[start:end]
    count = round(seconds * RATE_HZ)
    if len(signal) > count:
        signal = signal[:count] * np.clip(np.arange(count, 0, -1) / (_FADE_S * RATE_HZ), 0, 1)
    file = io.BytesIO()
    # MP3 is lossy and can raise peaks, hence the 0.9.
    soundfile.write(file, 0.9 * signal, RATE_HZ, format="MP3", compression_level=_COMPRESSION)
    return data_uri("audio/mpeg", file.getvalue())
