"""A split in memory."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float16, Float32


@dataclass(frozen=True)
class Descriptions:
    """What is known of the recordings of one split, row by row.

    Attributes:
      attributes: labels in the order of `config.ATTRIBUTES` and in the corpus's units, NaN where missing.
      ids: unique within the corpus.
      speakers: "" where unknown.
      genders: "female", "male", or "" where unknown.
      durations_s: duration of the recording in seconds.
    """

    attributes: Float32[np.ndarray, "utterances 3"]
    ids: list[str]
    speakers: list[str]
    genders: list[str]
    durations_s: Float[np.ndarray, " utterances"]

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True)
class SplitArrays(Descriptions):
    """Recordings of one split with what is known of them.

    Attributes:
      chunks: normalised, clipped chunks of mel spectrograms or given features; (11, 62, 128) a recording by default.
    """

    chunks: Float16[np.ndarray, "utterances chunks frames mel"]
