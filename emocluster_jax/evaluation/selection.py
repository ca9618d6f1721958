"""The metrics of the validation split that can choose the best epoch of a training."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from emocluster_jax.config import SelectBy
from emocluster_jax.evaluation.metrics import ccc
from emocluster_jax.evaluation.sentences import Scores


class Selection(NamedTuple):
    """A metric of the validation split that can choose the best epoch.

    Attributes:
      title: its name in messages, after "validation".
      entry: its name in `metrics.jsonl`.
      detail: what it is a mean of.
      higher_is_better: whether the highest value is the best.
    """

    title: str
    entry: str
    detail: str
    higher_is_better: bool

    @property
    def origin_entry(self) -> str:
        """Its name in a model's origin."""
        return self.entry.removesuffix("_mean")

    def is_better(self, value: float, best: float) -> bool:
        """Whether a value is finite and better than the best so far, or the first finite one."""
        if not (np.isfinite(value) and np.isfinite(best)):
            return bool(np.isfinite(value))
        return value > best if self.higher_is_better else value < best


SELECTIONS: dict[SelectBy, Selection] = {
    "ccc": Selection("CCC", "validation_ccc_mean", "mean over attributes, sentence level", True),
    "rmse": Selection(
        "RMSE", "validation_rmse", "mean over attributes, sentence level, in deviations of the labels", False
    ),
    "loss": Selection("loss", "validation_loss", "mean over attributes of 1 - CCC of chunks", False),
}


def selection_values(
    scores: dict[str, Scores],
    of_chunks: Float[np.ndarray, "utterances chunks A"],
    targets: Float[np.ndarray, "utterances A"],
    label_std: Float[np.ndarray, " A"],
    selecting: tuple[str, ...],
) -> dict[str, float]:
    """The value of each of `SELECTIONS`, by its entry: means over the attributes that select.

    The RMSE is in standard deviations of the training labels, so that attributes of different scales count alike. The
    loss is 1 - CCC of all chunks of the split, each with its recording's label; the authors take the mean over batches.

    Args:
      scores: of the recordings, by attribute, in the order of the arrays.
      of_chunks: predictions in z-normalised label units.
      targets: z-normalised labels, NaN where missing.
      label_std: of the training labels.
      selecting: attributes of `scores`; without any, all values are NaN.
    """
    columns = [(scores[name], list(scores).index(name)) for name in selecting]
    values = {
        "ccc": [score.ccc for score, _ in columns],
        "rmse": [score.rmse / label_std[i] for score, i in columns],
        "loss": [1 - ccc(of_chunks[:, :, i].ravel(), targets[:, i].repeat(of_chunks.shape[1])) for _, i in columns],
    }
    return {
        selection.entry: float(np.mean(values[name])) if columns else float("nan")
        for name, selection in SELECTIONS.items()
    }
