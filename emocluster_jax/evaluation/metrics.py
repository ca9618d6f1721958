"""Agreement between predicted and human ratings of attributes, and which of it can choose the best epoch.

Pairs in which either number is not finite are left out. If no pair is left, every metric is NaN. Arrays of different
shapes raise ValueError.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from emocluster_jax.config import SelectBy


def ccc(prediction: Float[np.ndarray, " n"], target: Float[np.ndarray, " n"]) -> float:
    """Concordance correlation coefficient, -1 to 1 (Lin, Biometrics 45, 1989), with population variances.

    It is NaN if both sides are the same constant, as 0 / 0, and 0 if only one is constant or the constants differ.
    """
    x, y = _complete_pairs(prediction, target)
    return float(ccc_of_rows(x, y)) if x.size else float("nan")


def ccc_of_rows(
    prediction: Float[np.ndarray, "*rows n"], target: Float[np.ndarray, "*#rows n"]
) -> Float[np.ndarray, "*rows"]:
    """`ccc` of many pairs of arrays at once, along the last axis; n is at least 1 and every number finite."""
    x, y = np.asarray(prediction, np.float64), np.asarray(target, np.float64)
    # Shifting and scaling both alike does not change the coefficient, but keeps the squares from vanishing or
    # overflowing.
    middle = x.mean(axis=-1, keepdims=True) / 2 + y.mean(axis=-1, keepdims=True) / 2
    x, y = x - middle, y - middle
    largest = np.maximum(np.abs(x).max(axis=-1, keepdims=True), np.abs(y).max(axis=-1, keepdims=True))
    largest[largest == 0] = 1.0
    x, y = x / largest, y / largest
    x_mean, y_mean = x.mean(axis=-1, keepdims=True), y.mean(axis=-1, keepdims=True)
    x, y = x - x_mean, y - y_mean
    covariance = np.mean(x * y, axis=-1)
    scale = np.mean(x * x, axis=-1) + np.mean(y * y, axis=-1) + (x_mean - y_mean)[..., 0] ** 2
    varies = scale > 0
    return np.where(varies, 2 * covariance / np.where(varies, scale, 1.0), np.nan)


def pearson(prediction: Float[np.ndarray, " n"], target: Float[np.ndarray, " n"]) -> float:
    """Pearson's correlation coefficient, -1 to 1; NaN if either side is constant."""
    x, y = _complete_pairs(prediction, target)
    if x.size == 0 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return float("nan")
    # Scaled for the same reason as in `ccc`.
    x, y = x - x.mean(), y - y.mean()
    x, y = x / np.abs(x).max(), y / np.abs(y).max()
    return float(np.clip(np.dot(x, y) / (np.linalg.norm(x) * np.linalg.norm(y)), -1.0, 1.0))


def rmse(prediction: Float[np.ndarray, " n"], target: Float[np.ndarray, " n"]) -> float:
    """Root of the mean squared error, in the unit of the ratings."""
    x, y = _complete_pairs(prediction, target)
    return float(np.sqrt(np.mean((x - y) ** 2))) if x.size else float("nan")


def _complete_pairs(
    prediction: Float[np.ndarray, " n"], target: Float[np.ndarray, " n"]
) -> tuple[Float[np.ndarray, " m"], Float[np.ndarray, " m"]]:
    """The pairs of two finite numbers, in double precision."""
    x, y = np.asarray(prediction, np.float64), np.asarray(target, np.float64)
    if x.shape != y.shape:
        raise ValueError(f"prediction has shape {x.shape} and target {y.shape}; expected the same")
    finite = np.isfinite(x) & np.isfinite(y)
    return x[finite], y[finite]


@dataclass(frozen=True)
class Scores:
    """How well one attribute is predicted.

    Attributes:
      ccc: concordance correlation coefficient.
      pearson: Pearson's r.
      rmse: in label units.
      n: sentences with a label and a finite prediction; the scores are of these.
      not_finite: sentences with a label and a prediction that is NaN or infinite.
    """

    ccc: float
    pearson: float
    rmse: float
    n: int
    not_finite: int = 0


ScoresAlone = Mapping[str, Mapping[str, Scores]]
"""By attribute, and by the input that predicted it alone; empty for models that read nothing besides audio."""


def score_rows(scores: Mapping[str, Scores], alone: ScoresAlone) -> list[tuple[str, Scores]]:
    """The rows of a table of scores: by attribute those of all inputs, and under them those of each one alone."""
    rows = []
    for name, of_all in scores.items():
        rows.append((name, of_all))
        rows += [(f"{name}, {given} alone", of_one) for given, of_one in alone.get(name, {}).items()]
    return rows


def sentence_attributes(
    chunk_attributes: Float[np.ndarray, "utterances chunks A"],
    label_mean: Float[np.ndarray, " A"],
    label_std: Float[np.ndarray, " A"],
) -> Float[np.ndarray, "utterances A"]:
    """The mean over each sentence's chunks of z-normalised predictions, in label units (paper, section 4.1)."""
    return chunk_attributes.mean(axis=1, dtype=np.float64).astype(np.float32) * label_std + label_mean


def score_sentences(
    truth: Float[np.ndarray, "utterances A"],
    predictions: Float[np.ndarray, "utterances A"],
    attributes: tuple[str, ...],
) -> dict[str, Scores]:
    """Scores by attribute, over the sentences with a label and a finite prediction."""
    scores = {}
    for name, true, predicted in zip(attributes, truth.T, predictions.T, strict=True):
        known, finite = np.isfinite(true), np.isfinite(predicted)
        pair = true, predicted
        scores[name] = Scores(
            ccc(*pair), pearson(*pair), rmse(*pair), int((known & finite).sum()), int((known & ~finite).sum())
        )
    return scores


class Selection(NamedTuple):
    """A metric of the validation split that can choose the best epoch."""

    title: str
    """Its name in messages, after "validation"."""
    entry: str
    """Its name in `metrics.jsonl`."""
    detail: str
    """What it is a mean of."""
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
    """The value of each of `SELECTIONS`, by its entry: means over the attributes that select; without any, NaN.

    The RMSE is in standard deviations of the training labels, so that attributes of different scales count alike. The
    loss is 1 - CCC of all chunks of the split, each with its recording's label; the authors take the mean over batches.
    Predictions and targets are in z-normalised label units, with the attributes of `scores` in that order.
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
