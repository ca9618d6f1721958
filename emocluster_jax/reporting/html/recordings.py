"""Recordings inside a page: the most typical of each cluster as sound, and pictures of their cut into chunks."""

from __future__ import annotations

import contextlib
import io
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile
from jaxtyping import Float

from emocluster_jax.config import AudioConfig, FeatureConfig, Features
from emocluster_jax.console import Console
from emocluster_jax.corpora.segments import find_recording
from emocluster_jax.errors import RecordingError
from emocluster_jax.preprocessing.audio import read_audio
from emocluster_jax.preprocessing.chunks import frame_count
from emocluster_jax.preprocessing.normalization import feature_statistics, frame_moments, normalize
from emocluster_jax.preprocessing.sources import cut_segment, read_source, segment_bounds, source_frames
from emocluster_jax.reporting.html.figures import cluster_colour
from emocluster_jax.reporting.html.rendering import data_uri
from emocluster_jax.reporting.html.sample import Sample, SampledRecording

RATE_HZ = 16_000
_COMPRESSION = 0.8
"""Of libsndfile's 0 to 1: about 5 KB per second of speech at this rate."""
_FADE_S = 0.05
_DYNAMIC_RANGE_DB = 60
_WIDEST = 2_000
"""The most columns of a recording's picture; longer recordings are thinned out."""


_TICK_DISTANCE = 0.12
"""The least between labels of the vertical axis, as a share of it."""


class Clip(NamedTuple):
    """A recording to listen to, as a `data:` URI, or the reason why it cannot be played."""

    recording: SampledRecording
    audio: str | None
    reason: str = ""


class TypicalRecordings(NamedTuple):
    """A cluster, how many of a sample's recordings are in it, and those nearest to its centroid, nearest first.

    `mean` is of the recordings' ratings by `label`; None without any. `colour` is the cluster's on the map.
    """

    cluster: int
    colour: str
    recordings: int
    label: str
    mean: float | None
    clips: tuple[Clip, ...]


def typical_recordings(
    sample: Sample, source: Path, audio: AudioConfig, clips: int, seconds: float, console: Console
) -> tuple[TypicalRecordings, ...]:
    """The recordings of a sample nearest to each centroid, among those in its cluster.

    There are at most `clips` per cluster, of at most `seconds` each; ids are relative to the folder `source`. Clusters
    come in the order of their mean arousal or else the first label that is known; those without any are last.
    """
    if sample.centroids is None or not sample.recordings or clips == 0:
        return ()
    known = list(dict.fromkeys(name for r in sample.recordings for name in (*r.predictions, *r.labels)))
    label = next((name for name in ("arousal", *known) if any(name in r.labels for r in sample.recordings)), "")
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
            try:
                return Clip(recording, _audio_clip(*place, seconds, audio))
            except RecordingError as error:
                return Clip(recording, None, str(error))

        found = [
            TypicalRecordings(
                cluster,
                cluster_colour(cluster),
                len(recordings),
                label,
                _mean([recording.labels[label] for recording in recordings if label in recording.labels]),
                tuple(clip(recording) for recording in recordings[:clips]),
            )
            for cluster, recordings in enumerate(members)
        ]
    return tuple(sorted(found, key=lambda cluster: (cluster.mean is None, cluster.mean or 0.0, cluster.cluster)))


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if values else None


def _audio_clip(path: Path, start_s: float | None, end_s: float | None, seconds: float, audio: AudioConfig) -> str:
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


class Cut(NamedTuple):
    """Pictures of a recording and its chunks, as `data:` URIs of PNG; durations and starts in seconds.

    `frames` is the whole recording: its mel spectrogram in decibels, or given features, each dimension normalised over
    the recording; None if its file is missing. `chunks` are normalised, as the network gets them. `ticks` are of the
    pictures' vertical axis: heights as a share of the picture's, and labels.
    """

    id: str
    duration_s: float
    chunk_s: float
    starts_s: tuple[float, ...]
    frames: str | None
    chunks: tuple[str, ...]
    ticks: tuple[tuple[float, str], ...]

    @property
    def step_s(self) -> float:
        """From the start of one chunk to the start of the next."""
        return self.starts_s[1] - self.starts_s[0] if len(self.starts_s) > 1 else 0.0


def draw_cut(
    id: str,
    source: Path,
    duration_s: float,
    chunks: Float[np.ndarray, "chunks frames dimensions"],
    features: Features,
    audio: AudioConfig,
) -> Cut:
    """Draws a recording's frames and its normalised chunks from the records.

    Its id is relative to the folder `source`. The file may be missing; outside of the folder it is not read.
    """
    hop_s = 1 / features.frames_per_second
    frames = frame_count(round(duration_s * features.source_rate), features)
    step = (max(frames, features.chunk_frames) - features.chunk_frames) // max(len(chunks) - 1, 1)
    starts_s = tuple(i * step * hop_s for i in range(len(chunks)))
    picture = None
    place = find_recording(source, id)
    if place is not None:
        path, start_s, end_s = place
        with contextlib.suppress(RecordingError):
            file = read_source(path, features, audio)
            whole = source_frames(cut_segment(file, features, start_s, end_s), features)
            picture = _overview(whole[:: -(-len(whole) // _WIDEST)], features)
    # Power is far from normally distributed: without a root most of a picture would have one colour.
    values = chunks.astype(np.float32)
    least = float(values.min())
    highest = float(np.sqrt(features.clip - least))
    pieces = tuple(_picture(above, 0, highest) for above in np.sqrt(values - least))
    return Cut(id, duration_s, features.chunk_frames * hop_s, starts_s, picture, pieces, _ticks(features))


def _ticks(features: Features) -> tuple[tuple[float, str], ...]:
    """Frequencies an octave apart, from where labels do not overlap; the first and the last of given dimensions."""
    rows = features.dimensions
    if not isinstance(features, FeatureConfig):
        return tuple(((row + 0.5) / rows, f"dim. {row + 1}") for row in dict.fromkeys((0, rows - 1)))
    from librosa import hz_to_mel

    highest = features.sample_rate_hz / 2
    ticks, last = [], 0.0
    for hz in itertools.takewhile(lambda hz: hz < highest, (125 * 2**octave for octave in itertools.count())):
        # Bands are equally far apart on the mel scale; the first has its centre one step above 0 Hz.
        height = float(hz_to_mel(hz) / hz_to_mel(highest) * (rows + 1) - 0.5) / rows
        if last + _TICK_DISTANCE <= height < 1:
            ticks.append((height, f"{hz} Hz" if hz < 1_000 else f"{hz // 1_000} kHz"))
            last = height
    return tuple(ticks)


def _overview(frames: Float[np.ndarray, "time dimensions"], features: Features) -> str:
    if isinstance(features, FeatureConfig):
        decibels = 10 * np.log10(np.maximum(frames, 1e-10))
        return _picture(decibels, float(decibels.max()) - _DYNAMIC_RANGE_DB, float(decibels.max()))
    normalized = normalize(frames, feature_statistics(frame_moments(frames)), features.clip)
    return _picture(normalized, -features.clip, features.clip)


def _picture(mel: Float[np.ndarray, "time mel"], lowest: float, highest: float) -> str:
    """Time to the right, frequency upwards."""
    from matplotlib.image import imsave

    file = io.BytesIO()
    imsave(file, mel.T, vmin=lowest, vmax=highest, cmap="magma", origin="lower", format="png")
    return data_uri("image/png", file.getvalue())
