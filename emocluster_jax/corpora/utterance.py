"""The row that every corpus reader produces, whatever the corpus looks like on disk."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from emocluster_jax.config import ATTRIBUTES


@dataclass(frozen=True)
class Utterance:
    """One recording with what is known of it.

    Attributes:
      id: unique within the corpus; the path relative to the corpus root, with forward slashes.
      path: where the audio file lies.
      split: one of `config.SPLITS`.
      speaker: the corpus's name for the speaker, or None where unknown.
      gender: "female", "male" or None where unknown.
      attributes: one value per name of `config.ATTRIBUTES`, in the corpus's own label units; NaN where missing.
    """

    id: str
    path: Path
    split: str
    speaker: str | None = None
    gender: str | None = None
    attributes: tuple[float, ...] = (math.nan,) * len(ATTRIBUTES)
