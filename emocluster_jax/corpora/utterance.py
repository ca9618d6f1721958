"""The row that every corpus reader produces, whatever the corpus looks like on disk."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path


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
      labels: value by name, in the corpus's own units; NaN or absent where missing.
      start_s: where the segment begins, in seconds from the file's beginning; None for 0.
      end_s: where it ends; None for the file's end.
    """

    id: str
    path: Path
    split: str
    speaker: str | None = None
    gender: str | None = None
    labels: Mapping[str, float] = field(default_factory=dict, hash=False)
    start_s: float | None = None
    end_s: float | None = None

    @property
    def has_labels(self) -> bool:
        """Whether any label is a number."""
        return not all(map(math.isnan, self.labels.values()))
