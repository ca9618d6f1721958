"""The clusters with the lowest and the highest mean label."""

from __future__ import annotations

import numpy as np
import pytest

from emocluster_jax.evaluation.cluster_labels import cluster_extremes


def test_distance_of_a_hand_made_clustering() -> None:
    # Two chunks a sentence. Cluster 2 has labels 1, 1, 2; cluster 5 has 3, 3; cluster 0 has 2; 7 has no labelled chunk.
    labels = np.array([1.0, 2.0, 3.0, np.nan], np.float32)
    assignments = np.array([2, 2, 2, 0, 5, 5, 7, 7], np.int32)
    found = cluster_extremes(assignments, labels)
    assert found.lowest.tolist() == [1, 1, 2] and found.highest.tolist() == [3, 3]
    # All mass of {1, 1, 2} moves to 3: (2 + 2 + 1) / 3.
    assert found.distance == pytest.approx(5 / 3)


def test_chance_is_what_random_clusters_give() -> None:
    rng = np.random.default_rng(0)
    labels = rng.normal(4, 1, 300).astype(np.float32)
    by_label = np.repeat(np.digitize(labels, np.quantile(labels, [0.25, 0.5, 0.75])), 11)
    told = cluster_extremes(by_label.astype(np.int32), labels)
    random = cluster_extremes(rng.integers(0, 4, 300 * 11).astype(np.int32), labels)
    # The outer quarters of a standard normal are 2.54 apart; what is left to chance is a few hundredths.
    assert told.distance == pytest.approx(2.54, abs=0.2)
    assert told.distance_by_chance < 0.5 and random.distance < 0.5
    assert random.distance == pytest.approx(random.distance_by_chance, abs=0.15)


def test_one_cluster_is_both() -> None:
    found = cluster_extremes(np.zeros(6, np.int32), np.array([1.0, 2.0, 3.0]))
    assert found.distance == found.distance_by_chance == 0


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match="7 chunks of 3 sentences"):
        cluster_extremes(np.zeros(7, np.int32), np.array([1.0, 2.0, 3.0]))
    with pytest.raises(ValueError, match="0 labelled"):
        cluster_extremes(np.zeros(6, np.int32), np.full(3, np.nan))
