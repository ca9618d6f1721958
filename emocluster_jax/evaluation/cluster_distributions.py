"""How an attribute is distributed in each cluster."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int


@dataclass(frozen=True)
class Distribution:
    """The labels of the chunks of one cluster, in label units.

    Attributes:
      cluster: its number.
      chunks: how many of its chunks have a label.
      mean: of the labels.
      quantiles: least label, lower quartile, median, upper quartile, greatest label.
    """

    cluster: int
    chunks: int
    mean: float
    quantiles: tuple[float, float, float, float, float]


def distributions(
    counts: Int[np.ndarray, "sentences clusters"], labels: Float[np.ndarray, " sentences"]
) -> tuple[Distribution, ...]:
    """The distribution of a label in every cluster that has labelled chunks, from the lowest mean to the highest.

    Args:
      counts: chunks of each sentence in each cluster, of `cluster_information.cluster_counts`.
      labels: of the sentences, NaN where missing.
    """
    known = np.isfinite(labels)
    counts, labels = counts[known], labels[known].astype(np.float64)
    found = [
        Distribution(
            cluster=cluster,
            chunks=int(weights.sum()),
            mean=float(np.average(labels, weights=weights)),
            quantiles=tuple(
                np.quantile(labels, (0, 0.25, 0.5, 0.75, 1), weights=weights, method="inverted_cdf").tolist()
            ),
        )
        for cluster, weights in enumerate(counts.T)
        if weights.sum()
    ]
    return tuple(sorted(found, key=lambda distribution: distribution.mean))
