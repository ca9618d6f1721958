"""How far apart the clusters with the highest and the lowest mean of an attribute are (paper, figure 3)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

CHANCE_DRAWS = 20
_SEED = 2021


@dataclass(frozen=True, eq=False)
class ClusterExtremes:
    """Two clusters of a labelled split: those whose chunks have the lowest and the highest mean label.

    Attributes:
      lowest: (l,) the labels of the chunks in the cluster with the lowest mean; a chunk has its sentence's label.
      highest: (h,) those in the cluster with the highest.
      distance: Wasserstein's (of order 1) between the two distributions, in label units.
      distance_by_chance: the mean of the same where the labels are dealt out anew among the sentences. It is not 0:
        some cluster is always the lowest, and a small one easily far off.
    """

    lowest: Float[np.ndarray, " l"]
    highest: Float[np.ndarray, " h"]
    distance: float
    distance_by_chance: float


def cluster_extremes(
    assignments: Int[np.ndarray, " chunks"], labels: Float[np.ndarray, " sentences"]
) -> ClusterExtremes:
    """Finds the two clusters, among those with labelled chunks; the same input gives the same result.

    Args:
      assignments: cluster of every chunk, those of a sentence one after another, equally many a sentence.
      labels: of the sentences, NaN where there is none; at least one is there.

    Raises:
      ValueError: the chunks cannot be those of so many sentences, or no sentence has a label.
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

    chunk_labels = np.repeat(labels, clusters.shape[1])
    counts = np.bincount(clusters.ravel())
    sums = np.bincount(clusters.ravel(), weights=chunk_labels)
    present = np.flatnonzero(counts)
    means = sums[present] / counts[present]
    lowest, highest = (
        chunk_labels[clusters.ravel() == present[position]] for position in (means.argmin(), means.argmax())
    )
    return lowest, highest, float(wasserstein_distance(lowest, highest))
