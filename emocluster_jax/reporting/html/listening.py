"""For each cluster the recordings that are most typical of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from emocluster_jax.config import AudioConfig
from emocluster_jax.console import Console
from emocluster_jax.corpora.segments import find_recording
from emocluster_jax.reporting.html.audio_clips import NoClipError, audio_clip
from emocluster_jax.reporting.html.sample import Sample, SampledRecording


@dataclass(frozen=True)
class Clip:
    """A recording to listen to.

    Attributes:
      recording: whose it is.
      audio: a `data:` URI; None where it cannot be played.
      reason: why not, in a few words.
    """

    recording: SampledRecording
    audio: str | None
    reason: str = ""

    @property
    def details(self) -> str:
        """Its split, speaker, duration, labels and predictions in one line."""
        recording = self.recording
        parts = [recording.split, recording.speaker and f"speaker {recording.speaker}", f"{recording.duration_s:.1f} s"]
        for name in dict.fromkeys([*recording.predictions, *recording.labels]):
            rated, predicted = recording.labels.get(name), recording.predictions.get(name)
            values = [
                "" if rated is None else f" {rated:.2f}",
                "" if predicted is None else f" predicted {predicted:.2f}",
            ]
            parts.append(name + ",".join(value for value in values if value))
        return " · ".join(part for part in parts if part)


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
      sample: what the model makes of them.
      source: the folder that the recordings' ids are relative to.
      audio: how they were prepared.
      clips: how many a cluster, at most.
      seconds: how much of each, at most.
      console: shows how far it is.
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
                return Clip(recording, audio_clip(path, seconds, audio, start_s, end_s))
            except NoClipError as error:
                return Clip(recording, None, str(error))

        return tuple(
            TypicalRecordings(cluster, len(recordings), tuple(clip(recording) for recording in recordings[:clips]))
            for cluster, recordings in enumerate(members)
        )
