"""Numbers that tell from epoch to epoch what the clusters do."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Int


class ClusterDiagnostics(NamedTuple):
    """Of one clustering of n examples."""

    sizes: Int[np.ndarray, " clusters"]
    """Examples a cluster."""
    nmi_with_previous: float
    """Normalised mutual information with the previous assignment, 0 to 1; NaN if there is none."""


def cluster_diagnostics(
    assignments: Int[np.ndarray, " n"], clusters: int, previous: Int[np.ndarray, " n"] | None = None
) -> ClusterDiagnostics:
    """Sizes of the clusters, and how much of the previous assignment they keep.

    Args:
      assignments: (n,) cluster of every example, below `clusters`.
      clusters: number of clusters, empty ones included.
      previous: (n,) assignment of the same examples before, or None.

    The mutual information is normalised by the arithmetic mean of both entropies, as scikit-learn does by default; by
    its convention two assignments of a single cluster each score 1.
    """
    from sklearn.metrics import normalized_mutual_info_score

    nmi = float("nan") if previous is None else float(normalized_mutual_info_score(previous, assignments))
    return ClusterDiagnostics(np.bincount(assignments, minlength=clusters), nmi)
