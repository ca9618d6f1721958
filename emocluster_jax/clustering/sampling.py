"""Batches of chunks or of whole recordings, balanced by clusters or plainly shuffled."""

from __future__ import annotations

import numpy as np
from jaxtyping import Int


def balanced_indices(
    assignments: Int[np.ndarray, " n"], batch_size: int, rng: np.random.Generator
) -> Int[np.ndarray, "steps batch"]:
    """Indices of one stage's batches, int64, drawn in equal shares from the clusters.

    The share is the smallest that fills ceil(n / batch_size) batches from the non-empty clusters. Clusters larger than
    it are drawn from without repetition, others with; all draws are shuffled and cut after the last batch. As in
    DeepCluster (Caron et al., ECCV 2018) and DeepEmoCluster (Lin, Sridhar & Busso, ICASSP 2021), but with full batches.

    Raises ValueError for no examples, a batch size below 1, or a negative cluster.
    """
    assignments = np.asarray(assignments)
    if assignments.size == 0:
        raise ValueError("assignments is empty; there is nothing to draw batches from")
    if batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}; expected at least 1")
    sizes = np.bincount(assignments)
    by_cluster = np.split(np.argsort(assignments, kind="stable"), np.cumsum(sizes)[:-1])
    members = [cluster for cluster in by_cluster if cluster.size]

    steps = -(-assignments.size // batch_size)
    share = -(-steps * batch_size // len(members))
    drawn = [
        rng.choice(cluster, share, replace=False) if cluster.size > share else rng.choice(cluster, share)
        for cluster in members
    ]
    return rng.permutation(np.concatenate(drawn))[: steps * batch_size].reshape(steps, batch_size)


def balanced_recordings(
    assignments: Int[np.ndarray, "recordings chunks"], batch_size: int, rng: np.random.Generator
) -> Int[np.ndarray, "steps batch"]:
    """Numbers of recordings for one stage's batches, in which every cluster has about as many chunks.

    A recording's weight is the sum over its chunks of 1 / (size of the chunk's cluster), so that every cluster has the
    same weight; recordings are drawn with replacement by these weights (Lin & Busso, Speech Communication 157, 2024).
    There are ceil(recordings / batch_size) steps.
    """
    weights = (1 / np.bincount(assignments.ravel()).clip(min=1))[assignments].sum(axis=1)
    steps = -(-len(weights) // batch_size)
    return rng.choice(len(weights), (steps, batch_size), p=weights / weights.sum())


def shuffled_indices(count: int, batch_size: int, rng: np.random.Generator) -> Int[np.ndarray, "steps batch"]:
    """Indices of one stage's batches: all `count` examples in a random order, and some again to fill the last batch."""
    steps = -(-count // batch_size)
    orders = [rng.permutation(count) for _ in range(-(-steps * batch_size // count))]
    return np.concatenate(orders)[: steps * batch_size].reshape(steps, batch_size)
