"""How well chunks represent a recording, and the condition of its samples."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from emocluster_jax.config import Features, GivenFeatures
from emocluster_jax.preprocessing.audio import Condition
from emocluster_jax.preprocessing.chunks import ChunkParts, chunk_spans, frame_count

SILENCE = 1e-4
"""A chunk is silent if its samples differ by at most this share of the recording's peak (-80 dB) and do not include the
peak: digital silence, even with a constant offset or after a codec."""
DC_OFFSET = 0.01
"""The share of the peak from which an offset counts; studio recordings have less than a fortieth of it."""


class Quality(NamedTuple):
    """The quality of a recording, or of a window of it; NaN for what is unknown for given features."""

    covered: float  # share of it that is in at least one chunk
    padded: float  # share of each chunk that is padding, because it is shorter than a chunk
    silent_chunks: float  # share of its chunks that are silent (`SILENCE`)
    clipped_samples: float  # of the whole recording (`audio.Condition`)
    dc_offset: float  # of the whole recording, as a share of its peak, from -1 to 1
    cut: float  # 1 if the recording's file ends before its data do, otherwise 0

    @property
    def is_silent(self) -> bool:
        return self.silent_chunks == 1

    @property
    def noticed(self) -> tuple[str, ...]:
        """Which of `NOTICES` apply."""
        applies = (self.cut > 0, self.clipped_samples > 0, abs(self.dc_offset) >= DC_OFFSET, self.silent_chunks > 0)
        return tuple(itertools.compress(NOTICES, applies))  # in the same order


NOTICES = {
    "cut": "with a file that ends early, used as far as it goes (`strict_audio` leaves it out)",
    "clipped": "with clipped samples",
    "dc_offset": "with a DC offset of 1 % of the peak or more (`remove_dc` subtracts it)",
    "silent_chunks": "with silent chunks",
}
"""Oddities of recordings that are used and counted, and how messages describe them."""


def told(noticed: Mapping[str, int]) -> list[str]:
    """One line for each of `NOTICES` that applies, from the number of recordings that it applies to."""
    return [
        f"{noticed[name]} {'recording' if noticed[name] == 1 else 'recordings'} {notice}"
        for name, notice in NOTICES.items()
        if noticed.get(name)
    ]


def quality_of(parts: ChunkParts, features: Features, condition: Condition) -> Quality:
    """The quality of what these chunks are cut of; `condition` is that of the whole recording."""
    frames, length, count = frame_count(parts.length, features), features.chunk_frames, features.chunks_per_utterance
    step = max(frames - length, 0) // max(count - 1, 1)
    covered = min(length + (count - 1) * min(step, length), frames) / frames
    padded = max(length - frames, 0) / length
    if isinstance(features, GivenFeatures):
        return Quality(covered, padded, math.nan, math.nan, math.nan, math.nan)
    # Of all samples that a chunk's frames see.
    is_silent = [np.ptp(span) <= SILENCE and np.abs(span).max() < 1 for span in chunk_spans(parts, features)]
    silent = float(np.mean(is_silent))
    return Quality(covered, padded, silent, float(condition.clipped_samples), condition.dc_offset, float(condition.cut))


def silent_reason(features: Features) -> str:
    """Why a recording that is not silent, but `Quality.is_silent`, cannot be used."""
    return f"all of its {features.chunks_per_utterance} chunks are silent"
