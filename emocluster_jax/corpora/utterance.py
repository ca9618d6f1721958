"""The row that every corpus reader produces, whatever the corpus looks like on disk."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from emocluster_jax.config import ATTRIBUTES


@dataclass(frozen=True)
class Utterance:
    """One recording with what is known of it: a file, or a segment of one.

    Attributes:
      id: unique within the corpus; the path relative to the corpus root, with forward slashes, and behind it, of a
        segment, `#start-end` (`segments.segment_suffix`).
      path: where the audio file lies.
      split: one of `config.SPLITS`.
      speaker: the corpus's name for the speaker, or None where unknown.
      gender: "female", "male" or None where unknown.
      attributes: one value per name of `config.ATTRIBUTES`, in the corpus's own label units; NaN where missing.
      start_s: where the segment begins, in seconds from the file's beginning; None for 0.
      end_s: where it ends; None for the file's end.
    """

    id: str
    path: Path
    split: str
    speaker: str | None = None
    gender: str | None = None
    attributes: tuple[float, ...] = (math.nan,) * len(ATTRIBUTES)
    start_s: float | None = None
    end_s: float | None = None
