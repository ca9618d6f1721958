"""What the epoch log says about the clusters."""

from __future__ import annotations

import math

import numpy as np
import pytest

from emocluster_jax.clustering.diagnostics import cluster_diagnostics


def test_sizes_count_empty_clusters_too() -> None:
    found = cluster_diagnostics(np.array([0, 2, 2]), 4)
    np.testing.assert_array_equal(found.sizes, [1, 0, 2, 0])
    assert math.isnan(found.nmi_with_previous)


def test_nmi_is_one_for_renamed_clusters_and_zero_for_independent_ones() -> None:
    assignments = np.array([0, 0, 1, 1])
    assert cluster_diagnostics(assignments, 3, np.array([2, 2, 0, 0])).nmi_with_previous == pytest.approx(1)
    assert cluster_diagnostics(assignments, 2, np.array([0, 1, 0, 1])).nmi_with_previous == pytest.approx(0, abs=1e-12)
    assert cluster_diagnostics(np.zeros(4, int), 1, np.zeros(4, int)).nmi_with_previous == 1
