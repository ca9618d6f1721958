"""How well a recording is represented by its chunks, and in what condition its samples are."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool

from emocluster_jax.config import FeatureConfig, Features
from emocluster_jax.preprocessing.audio import Condition
from emocluster_jax.preprocessing.chunk_frames import ChunkParts, chunk_spans, frame_count

SILENCE = 1e-4
"""A chunk is silent where its samples differ by no more than this share of the recording's peak, -80 dB, and the peak
is not among them: digital silence, also with a constant offset, and what a codec makes of it."""
DC_OFFSET = 0.01
"""From this share of the peak on an offset is counted; studio recordings stay below a fortieth of it."""


class Quality(NamedTuple):
    """Of a recording, or of a part of it that is a prediction's unit. NaN is what given features do not tell.

    Attributes:
      covered: share of it that lies in at least one chunk.
      padded: share of each chunk that is padding, since there is no more of it.
      silent_chunks: share of its chunks that are silent: `SILENCE`.
      clipped_samples: of the whole recording: `audio.Condition`.
      dc_offset: of the whole recording, as a share of its peak, from -1 to 1.
      cut: 1 where the recording's file ends before its data do, and 0 where it is whole.
    """

    covered: float
    padded: float
    silent_chunks: float
    clipped_samples: float
    dc_offset: float
    cut: float

    @property
    def is_silent(self) -> bool:
        """Whether all that a network would get of it is silence."""
        return self.silent_chunks == 1

    @property
    def noticed(self) -> tuple[str, ...]:
        """Which of `NOTICES` apply."""
        found = {
            "cut": self.cut > 0,
            "clipped": self.clipped_samples > 0,
            "dc_offset": abs(self.dc_offset) >= DC_OFFSET,
            "silent_chunks": self.silent_chunks > 0,
        }
        return tuple(name for name, applies in found.items() if applies)


NOTICES = {
    "cut": "with a file that ends early, used as far as it goes (--strict-audio leaves it out)",
    "clipped": "with clipped samples",
    "dc_offset": "with a DC offset of 1 % of the peak or more (--remove-dc subtracts it)",
    "silent_chunks": "with silent chunks",
}
"""What is counted of recordings that are used all the same, and how it is told."""


def told(noticed: Mapping[str, int]) -> list[str]:
    """A line for each of `NOTICES` that some recordings have.

    Args:
      noticed: how many have it.
    """
    return [
        f"{noticed[name]} {'recording' if noticed[name] == 1 else 'recordings'} {notice}"
        for name, notice in NOTICES.items()
        if noticed.get(name)
    ]


def quality_of(parts: ChunkParts, features: Features, condition: Condition) -> Quality:
    """What the parts that chunks are made of say, and what was noticed when the recording was decoded.

    Args:
      parts: of the recording or of a part of it; divided by the recording's peak.
      features: how chunks are cut.
      condition: of the whole recording.
    """
    frames, length, count = frame_count(parts.length, features), features.chunk_frames, features.chunks_per_utterance
    step = max(frames - length, 0) // max(count - 1, 1)
    covered = min(length + (count - 1) * min(step, length), frames) / frames
    padded = max(length - frames, 0) / length
    if not isinstance(features, FeatureConfig):
        return Quality(covered, padded, math.nan, math.nan, math.nan, math.nan)
    silent = float(_silent_chunks(parts, features).mean())
    return Quality(covered, padded, silent, float(condition.clipped_samples), condition.dc_offset, float(condition.cut))


def silent_reason(features: Features) -> str:
    """Why a recording that is not silent cannot be used if `Quality.is_silent`."""
    return f"all of its {features.chunks_per_utterance} chunks are silent"


def _silent_chunks(parts: ChunkParts, features: FeatureConfig) -> Bool[np.ndarray, " chunks"]:
    """Which chunks are silent, by all samples that their frames see."""
    return np.array([np.ptp(span) <= SILENCE and np.abs(span).max() < 1 for span in chunk_spans(parts, features)])
