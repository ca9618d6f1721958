"""How a label is distributed in the clusters, and how far apart its extreme clusters are (paper, figure 3)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

CHANCE_DRAWS = 20
_SEED = 2021


@dataclass(frozen=True)
class Distribution:
    """The labels of one cluster's chunks: how many have one, their mean and quartiles (0 to 4), in label units."""

    cluster: int
    chunks: int
    mean: float
    quantiles: tuple[float, float, float, float, float]


def distributions(
    counts: Int[np.ndarray, "sentences clusters"], labels: Float[np.ndarray, " sentences"]
) -> tuple[Distribution, ...]:
    """The distribution of a label (NaN where missing) in every cluster with labelled chunks, from the lowest mean.

    `counts` is from `cluster_information.cluster_counts`.
    """
    known = np.isfinite(labels)
    counts, labels = counts[known], labels[known].astype(np.float64)
    found = []
    for cluster, weights in enumerate(counts.T):
        if chunks := int(weights.sum()):
            mean = float(np.average(labels, weights=weights))
            quartiles = np.quantile(labels, (0, 0.25, 0.5, 0.75, 1), weights=weights, method="inverted_cdf")
            found.append(Distribution(cluster, chunks, mean, tuple(quartiles.tolist())))
    return tuple(sorted(found, key=lambda distribution: distribution.mean))


@dataclass(frozen=True, eq=False)
class ClusterExtremes:
    """The clusters with the lowest and the highest mean label.

    Attributes:
      lowest: labels of the chunks in the lowest cluster; a chunk has its sentence's label.
      highest: the same for the highest cluster.
      distance: Wasserstein distance of order 1 between the two, in label units.
      distance_by_chance: its mean when labels are shuffled among sentences; not 0, since some cluster is always the
        lowest.
    """

    lowest: Float[np.ndarray, " l"]
    highest: Float[np.ndarray, " h"]
    distance: float
    distance_by_chance: float


def cluster_extremes(
    assignments: Int[np.ndarray, " chunks"], labels: Float[np.ndarray, " sentences"]
) -> ClusterExtremes:
    """Finds the two clusters, among those with labelled chunks; the same input gives the same result.

    Assignments of chunks are grouped by sentence, the same number for each; labels are of the sentences, NaN where
    missing. Raises ValueError if the numbers of chunks and sentences do not fit, or no sentence has a label.
    """
    if len(assignments) % max(len(labels), 1) or not np.isfinite(labels).any():
        raise ValueError(f"{len(assignments)} chunks of {len(labels)} sentences, {np.isfinite(labels).sum()} labelled")
    known = np.isfinite(labels)
    clusters = assignments.reshape(len(labels), -1)[known]
    labels = labels[known].astype(np.float64)
    rng = np.random.default_rng(_SEED)
    lowest, highest, distance = _extremes(clusters, labels)
    by_chance = [_extremes(clusters, rng.permutation(labels))[2] for _ in range(CHANCE_DRAWS)]
    return ClusterExtremes(lowest, highest, distance, float(np.mean(by_chance)))


def _extremes(
    clusters: Int[np.ndarray, "sentences chunks"], labels: Float[np.ndarray, " sentences"]
) -> tuple[Float[np.ndarray, " l"], Float[np.ndarray, " h"], float]:
    from scipy.stats import wasserstein_distance

    chunk_labels, clusters = np.repeat(labels, clusters.shape[1]), clusters.ravel()
    counts, sums = np.bincount(clusters), np.bincount(clusters, weights=chunk_labels)
    present = np.flatnonzero(counts)
    means = sums[present] / counts[present]
    lowest, highest = (chunk_labels[clusters == present[at]] for at in (means.argmin(), means.argmax()))
    return lowest, highest, float(wasserstein_distance(lowest, highest))
