"""Balanced and shuffled batches: equal shares, full batches, every index valid."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emocluster_jax.clustering.sampling import balanced_indices, balanced_recordings, shuffled_indices


@given(
    assignments=st.lists(st.integers(0, 9), min_size=1, max_size=300),
    batch_size=st.integers(1, 64),
    seed=st.integers(0, 2**31 - 1),
)
def test_shares_are_equal_batches_full_and_draws_without_need_not_repeated(assignments, batch_size, seed) -> None:
    assignments = np.array(assignments)
    batches = balanced_indices(assignments, batch_size, np.random.default_rng(seed))
    steps = -(-len(assignments) // batch_size)
    assert batches.shape == (steps, batch_size)
    assert batches.min() >= 0 and batches.max() < len(assignments)

    clusters, sizes = np.unique(assignments, return_counts=True)
    share = -(-steps * batch_size // len(clusters))
    drawn = np.array([np.sum(assignments[batches] == cluster) for cluster in clusters])
    # Cutting to full batches takes fewer than one example a cluster away in total.
    assert drawn.max() <= share
    assert share * len(clusters) - drawn.sum() < len(clusters)
    repeats = np.bincount(batches.ravel(), minlength=len(assignments))
    for cluster, size in zip(clusters, sizes, strict=True):
        if size > share:
            assert repeats[assignments == cluster].max() <= 1


def test_the_shuffle_mixes_the_clusters_within_batches() -> None:
    assignments = np.repeat(np.arange(4), [5000, 3000, 1500, 500])
    batches = balanced_indices(assignments, 500, np.random.default_rng(0))
    counts = np.stack([np.bincount(assignments[batch], minlength=4) for batch in batches])
    # 125 a cluster and batch are expected, with a standard deviation of about 10.
    assert np.abs(counts - 125).max() < 50


def test_small_clusters_repeat_their_members_about_equally_often() -> None:
    assignments = np.repeat([0, 1], [9990, 10])
    counts = np.bincount(balanced_indices(assignments, 100, np.random.default_rng(0)).ravel(), minlength=10_000)
    assert counts[:9990].max() == 1
    # 5,000 draws from ten members: 500 each, standard deviation 21.
    assert np.abs(counts[9990:] - 500).max() < 110


def test_the_generator_alone_decides() -> None:
    assignments = np.arange(50) % 3
    first, same, other = (balanced_indices(assignments, 8, np.random.default_rng(seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, same)
    assert (first != other).any()


def test_tiny_sets() -> None:
    rng = np.random.default_rng(0)
    np.testing.assert_array_equal(balanced_indices(np.array([4]), 3, rng), [[0, 0, 0]])
    assert sorted(balanced_indices(np.array([0, 5]), 2, rng).ravel()) == [0, 1]
    with pytest.raises(ValueError, match="empty"):
        balanced_indices(np.array([], int), 3, rng)
    with pytest.raises(ValueError, match="batch_size is 0"):
        balanced_indices(np.array([0]), 0, rng)


@given(count=st.integers(1, 300), batch_size=st.integers(1, 400), seed=st.integers(0, 2**31 - 1))
def test_shuffled_batches_hold_every_example_equally_often(count, batch_size, seed) -> None:
    batches = shuffled_indices(count, batch_size, np.random.default_rng(seed))
    assert batches.shape == (-(-count // batch_size), batch_size)
    times = np.bincount(batches.ravel(), minlength=count)
    assert len(times) == count
    assert times.min() >= 1 and np.ptp(times) <= 1
    assert sorted(batches.ravel()[:count]) == list(range(count))


def test_recordings_are_drawn_by_the_weights_of_their_chunks() -> None:
    # Clusters of 6 and 2 chunks: weights of 2/6, 2/6, 1/6 + 1/2 and 1/6 + 1/2.
    assignments = np.array([[0, 0], [0, 0], [0, 1], [1, 0]])
    batches = balanced_recordings(np.repeat(assignments, 5_000, axis=0), 64, np.random.default_rng(0))
    assert batches.shape == (313, 64) and batches.min() >= 0 and batches.max() < 20_000
    shares = np.bincount(batches.ravel() // 5_000) / batches.size
    # 20,032 draws: the standard deviation of a share is 0.0034.
    np.testing.assert_allclose(shares, np.array([2, 2, 4, 4]) / 12, atol=0.015)
    shown = assignments[batches // 5_000]
    assert np.mean(shown == 0) == pytest.approx((2 * 2 / 12 + 2 * 4 / 12 / 2), abs=0.015)


def test_every_recording_is_expected_as_often_as_its_weight_says() -> None:
    recordings, chunks, batch_size, epochs = 60, 11, 16, 400
    random = np.random.default_rng(1)
    assignments = random.choice(5, (recordings, chunks), p=[0.5, 0.3, 0.1, 0.07, 0.03])
    sizes = [int((assignments == cluster).sum()) for cluster in range(5)]
    weights = np.array([sum(1 / sizes[cluster] for cluster in row) for row in assignments.tolist()])
    counts = np.zeros(recordings)
    for _ in range(epochs):
        counts += np.bincount(balanced_recordings(assignments, batch_size, random).ravel(), minlength=recordings)
    assert counts.sum() == epochs * 64  # four full batches for 60 recordings
    expected = epochs * 64 * weights / weights.sum()
    # Each count is binomial: of 60, none is four standard deviations off.
    assert (np.abs(counts - expected) < 4 * np.sqrt(expected)).all()
