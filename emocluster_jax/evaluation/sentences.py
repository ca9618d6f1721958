"""From chunks to sentences, and the scores of sentences (paper, section 4.1)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from emocluster_jax.evaluation.metrics import ccc, pearson, rmse


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


def sentence_attributes(
    chunk_attributes: Float[np.ndarray, "utterances chunks A"],
    label_mean: Float[np.ndarray, " A"],
    label_std: Float[np.ndarray, " A"],
) -> Float[np.ndarray, "utterances A"]:
    """The mean over each sentence's chunks of z-normalised predictions, in label units of the training labels."""
    return chunk_attributes.mean(axis=1, dtype=np.float64).astype(np.float32) * label_std + label_mean


def score_sentences(
    truth: Float[np.ndarray, "utterances A"],
    predictions: Float[np.ndarray, "utterances A"],
    attributes: tuple[str, ...],
) -> dict[str, Scores]:
    """Scores by attribute, over the sentences with a label and a finite prediction."""
    scores = {}
    for name, true, predicted in zip(attributes, truth.T, predictions.T, strict=True):
        known = np.isfinite(true)
        scored = known & np.isfinite(predicted)
        true, predicted = true[scored], predicted[scored]
        scores[name] = Scores(
            ccc(true, predicted),
            pearson(true, predicted),
            rmse(true, predicted),
            len(true),
            int((known & ~scored).sum()),
        )
    return scores
