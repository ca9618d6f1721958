"""Numbers that became infinite or NaN: where, and for which recordings."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int

from emocluster_jax.errors import InputError
from emocluster_jax.storage.atomic_files import write_json
from emocluster_jax.training.data import TrainingData

NOT_FINITE = "not_finite"
"""The folder of a work directory that lists the chunks."""
_MOST_FILES = 100


class DivergedError(InputError):
    """A number became infinite or NaN; no checkpoint is affected."""


@dataclass(frozen=True)
class NotFinite:
    """Chunks with numbers that are infinite or NaN.

    Attributes:
      epoch: from 1.
      part: of the epoch, e.g. "stage I".
      split: of the chunks.
      step: of the part, from 1; 0 for embeddings and predictions.
      numbers: by name; at least one is not finite.
      chunks: their numbers within the split, as they were drawn.
    """

    epoch: int
    part: str
    split: str
    step: int
    numbers: dict[str, float]
    chunks: Int[np.ndarray, " n"]

    def __str__(self) -> str:
        """What happened and when, for people."""
        name, value = next((name, value) for name, value in self.numbers.items() if not math.isfinite(value))
        step = f", step {self.step}" if self.step else ""
        return f"epoch {self.epoch}, {self.part}{step}: the {name.replace('_', ' ')} is {value}"


def save_not_finite(workdir: Path, found: NotFinite, data: TrainingData) -> Path:
    """Lists the chunks in a JSON file of the work directory; repeating an epoch writes the same file.

    Returns the file, or only its folder if that already holds `_MOST_FILES`.
    """
    step = f"-step-{found.step:06d}" if found.step else ""
    path = workdir / NOT_FINITE / f"epoch-{found.epoch:06d}-{found.split}{step}.json"
    path.parent.mkdir(exist_ok=True)
    if not path.exists() and len(list(path.parent.iterdir())) >= _MOST_FILES:
        return path.parent
    positions, within = np.divmod(found.chunks, data.features.chunks_per_utterance)
    positions, of_chunk = np.unique(positions, return_inverse=True)
    ids = data.recording_ids(found.split, positions)
    values = {
        "epoch": found.epoch,
        "part": found.part,
        "step": found.step or None,
        "split": found.split,
        "numbers": {name: value if math.isfinite(value) else str(value) for name, value in found.numbers.items()},
        "chunks": [{"recording": ids[i], "chunk": chunk} for i, chunk in zip(of_chunk, within.tolist(), strict=True)],
    }
    write_json(path, values)
    return path
