"""Pictures of a recording and of the chunks that it is cut into."""

from __future__ import annotations

import contextlib
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from emocluster_jax.config import AudioConfig, FeatureConfig, Features
from emocluster_jax.corpora.segments import find_recording
from emocluster_jax.errors import RecordingError
from emocluster_jax.preprocessing.normalization import feature_statistics, frame_moments, normalize
from emocluster_jax.preprocessing.sources import cut_segment, read_source, source_frames
from emocluster_jax.reporting.html.rendering import data_uri

_COLOUR_MAP = "magma"
_DYNAMIC_RANGE_DB = 60
_WIDEST = 2_000
"""The most columns of a recording's picture; longer recordings are thinned out."""


@dataclass(frozen=True)
class Cut:
    """Pictures of a recording and its chunks, as `data:` URIs of PNG.

    Attributes:
      id: the recording's.
      duration_s: its duration in seconds.
      chunk_s: duration of a chunk in seconds.
      starts_s: where the chunks begin.
      frames: the whole recording: its mel spectrogram in decibels, or given features, each dimension normalised over
        the recording; None if its file is missing.
      chunks: normalised, as the network gets them.
    """

    id: str
    duration_s: float
    chunk_s: float
    starts_s: tuple[float, ...]
    frames: str | None
    chunks: tuple[str, ...]

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
    """Draws a recording's frames and its chunks.

    Args:
      id: the recording's.
      source: the folder that its id is relative to. The file may be missing; outside of the folder it is not read.
      duration_s: its duration in seconds.
      chunks: normalised, from the records.
      features: how they were cut.
      audio: how the file became a signal.
    """
    hop_s = 1 / features.frames_per_second
    steps = duration_s / hop_s
    frames = 1 + int(steps) if isinstance(features, FeatureConfig) else round(steps)
    step = (max(frames, features.chunk_frames) - features.chunk_frames) // max(len(chunks) - 1, 1)
    # Power is far from normally distributed: without a root most of a picture would have one colour.
    values = chunks.astype(np.float32)
    least = float(values.min())
    picture = None
    place = find_recording(source, id)
    if place is not None:
        path, start_s, end_s = place
        with contextlib.suppress(RecordingError):
            file = read_source(path, features, audio)
            whole = source_frames(cut_segment(file, features, start_s, end_s), features)
            picture = _overview(whole[:: -(-len(whole) // _WIDEST)], features)
    return Cut(
        id=id,
        duration_s=duration_s,
        chunk_s=features.chunk_frames * hop_s,
        starts_s=tuple(i * step * hop_s for i in range(len(chunks))),
        frames=picture,
        chunks=tuple(_picture(above, 0, float(np.sqrt(features.clip - least))) for above in np.sqrt(values - least)),
    )


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
    imsave(file, mel.T, vmin=lowest, vmax=highest, cmap=_COLOUR_MAP, origin="lower", format="png")
    return data_uri("image/png", file.getvalue())
