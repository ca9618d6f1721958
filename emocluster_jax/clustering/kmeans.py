"""Lloyd's K-means on one device or on points spread over the devices of a mapped axis.

One iteration reads the points once: block by block, distances, assignments and the clusters' sums are computed while
the block is in cache, so that no (points, clusters) matrix ever exists. Distances inside an iteration are
`|c|^2 / 2 - x c` (up to a constant) about the mean of all points, which keeps their rounding errors in proportion to
the spread of the points instead of to their distance from the origin; the final squared distances are sums of squared
differences.

Source: S. Lloyd, "Least squares quantization in PCM", IEEE Transactions on Information Theory 28 (1982).
"""

from __future__ import annotations

from functools import partial
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from emocluster_jax.clustering.blocks import by_platform, fold_blocks, squared_distances, sum_over_devices
from emocluster_jax.clustering.initialization import plus_plus_centroids, random_centroids
from emocluster_jax.clustering.reseeding import reseed_empty

HIGHEST = lax.Precision.HIGHEST


class KMeansResult(NamedTuple):
    """Clusters of one call of `kmeans`; n are the rows of this device."""

    centroids: Float[Array, "clusters dim"]
    assignments: Int[Array, " n"]
    """Index of the nearest centroid (int32), also of padding rows."""
    objective: Float[Array, ""]
    """Sum of squared distances to the returned centroids, over all devices."""
    objectives: Float[Array, " iterations"]
    """The same before each iteration's update of the centroids; rounded to about 1e-6 of the points' scatter."""
    reseeded: Int[Array, ""]
    """How often an empty cluster was re-seeded."""


@partial(jax.jit, static_argnames=("clusters", "iterations", "initialization", "axis_name"))
def kmeans(
    key: Array,
    points: Float[Array, "n dim"],
    weights: Float[Array, " n"] | None = None,
    *,
    clusters: int,
    iterations: int = 20,
    initialization: Literal["random", "kmeans++"] = "random",
    initial_centroids: Float[Array, "clusters dim"] | None = None,
    axis_name: str | None = None,
) -> KMeansResult:
    """Clusters points by Lloyd's algorithm.

    A cluster that empties is re-seeded from the point farthest from its centroid, one cluster after the other with
    distances updated in between, also after the last assignment: K clusters come back whenever there are K distinct
    points (points are the same where their squared distance is 0 in float32). With fewer, the clusters left over stay
    empty. Ties go to the lowest index.

    Args:
      key: random key of the initial centroids; the same on all devices.
      points: (n, dim) float32; on a mapped axis this device's part of them, device after device, all of one size.
      weights: (n,) 1 for real rows, 0 for padding, which has to come last in the global order; None: all are real.
      clusters: number of clusters K.
      iterations: updates of the centroids.
      initialization: "random" draws K different rows, "kmeans++" spreads them. The same rows for any number of devices.
      initial_centroids: (clusters, dim) to start from instead.
      axis_name: mapped axis (as in `jax.pmap`) over which the points are spread.

    Returns:
      The clusters; everything but `assignments` is the same on all devices.

    Raises:
      ValueError: K below 1 or above the number of rows, or shapes that do not fit.
    """
    count, dim = points.shape
    total_rows = count * (1 if axis_name is None else lax.axis_size(axis_name))
    if not 1 <= clusters <= total_rows:
        raise ValueError(f"clusters is {clusters}; expected 1 up to the number of rows, {total_rows}")
    if initial_centroids is not None and initial_centroids.shape != (clusters, dim):
        raise ValueError(f"initial_centroids has shape {initial_centroids.shape}; expected {(clusters, dim)}")
    points = points.astype(jnp.float32)
    real = None if weights is None else weights > 0
    everywhere = jnp.ones(count, bool) if real is None else real

    if initial_centroids is not None:
        centroids = initial_centroids.astype(jnp.float32)
    elif initialization == "random":
        centroids = random_centroids(key, points, everywhere, clusters, axis_name)
    elif initialization == "kmeans++":
        centroids = plus_plus_centroids(key, points, everywhere, clusters, axis_name)
    else:
        raise ValueError(f"initialization is {initialization!r}; expected 'random' or 'kmeans++'")

    mean, scatter = _mean_and_scatter(points, real, axis_name)

    def iterate(
        state: tuple[Float[Array, "clusters dim"], Int[Array, ""]], _: None
    ) -> tuple[tuple[Float[Array, "clusters dim"], Int[Array, ""]], Float[Array, ""]]:
        centroids, reseeded = state
        sums = _cluster_sums(points, real, centroids, mean, axis_name)
        objective = jnp.maximum(scatter + 2 * sums.scores, 0.0)

        def reseed(centroids: Float[Array, "clusters dim"]) -> tuple[Array, ClusterSums, Array]:
            assignments, distances = _assign(points, centroids, mean)
            centroids, _, _, times = reseed_empty(points, everywhere, centroids, assignments, distances, axis_name)
            return centroids, _cluster_sums(points, real, centroids, mean, axis_name), times

        def keep(centroids: Float[Array, "clusters dim"]) -> tuple[Array, ClusterSums, Array]:
            return centroids, sums, jnp.int32(0)

        centroids, sums, times = lax.cond(jnp.any(sums.counts == 0), reseed, keep, centroids)
        means = mean + sums.sums / jnp.maximum(sums.counts, 1)[:, None]
        centroids = jnp.where(sums.counts[:, None] > 0, means, centroids)
        return (centroids, reseeded + times), objective

    (centroids, reseeded), objectives = lax.scan(iterate, (centroids, jnp.int32(0)), length=iterations)
    assignments, distances = _assign(points, centroids, mean)
    centroids, assignments, distances, times = reseed_empty(
        points, everywhere, centroids, assignments, distances, axis_name
    )
    objective = sum_over_devices(jnp.sum(jnp.where(everywhere, distances, 0)), axis_name)
    return KMeansResult(centroids, assignments, objective, objectives, reseeded + times)


@jax.jit
def assign(
    points: Float[Array, "n dim"], centroids: Float[Array, "clusters dim"]
) -> tuple[Int[Array, " n"], Float[Array, " n"]]:
    """The nearest centroid of each point and the squared distance to it; ties go to the lowest index."""
    centroids = centroids.astype(jnp.float32)
    return _assign(points.astype(jnp.float32), centroids, jnp.mean(centroids, axis=0))


class ClusterSums(NamedTuple):
    """What one pass over the points gives."""

    sums: Float[Array, "clusters dim"]
    """Per cluster, the sum of its points' differences from the overall mean."""
    counts: Int[Array, " clusters"]
    scores: Float[Array, ""]
    """Sum of the points' smallest `|c|^2 / 2 - x c` about the overall mean."""


def _cluster_sums(
    points: Float[Array, "n dim"],
    real: Bool[Array, " n"] | None,
    centroids: Float[Array, "clusters dim"],
    mean: Float[Array, " dim"],
    axis_name: str | None,
) -> ClusterSums:
    """Assigns every real point to its nearest centroid and sums up the clusters, over all devices."""
    clusters = centroids.shape[0]

    def fold(points: Array, centroids: Array, mean: Array, *real: Array, block_rows: int) -> ClusterSums:
        centred = centroids - mean
        half_squares = 0.5 * jnp.sum(jnp.square(centred), axis=1)

        def step(carry: ClusterSums, start: Array, rows: Array, fresh: Array) -> ClusterSums:
            rows = rows - mean
            nearest, scores = _nearest(rows, centred, half_squares)
            members = jnp.where(fresh, nearest, clusters) == jnp.arange(clusters)[:, None]
            return ClusterSums(
                carry.sums + jnp.dot(members.astype(jnp.float32), rows, precision=HIGHEST),
                carry.counts + jnp.sum(members, axis=1, dtype=jnp.int32),
                carry.scores + jnp.sum(jnp.where(fresh, scores, 0)),
            )

        zeros = ClusterSums(jnp.zeros_like(centroids), jnp.zeros(clusters, jnp.int32), jnp.float32(0))
        return fold_blocks(step, zeros, points, real[0] if real else None, block_rows)

    operands = (points, centroids, mean) if real is None else (points, centroids, mean, real)
    return sum_over_devices(by_platform(fold, clusters, *operands), axis_name)


def _assign(
    points: Float[Array, "n dim"], centroids: Float[Array, "clusters dim"], origin: Float[Array, " dim"]
) -> tuple[Int[Array, " n"], Float[Array, " n"]]:
    """As `assign`, with the origin about which the points are compared."""

    def fold(points: Array, centroids: Array, origin: Array, *, block_rows: int) -> tuple[Array, Array]:
        centred = centroids - origin
        half_squares = 0.5 * jnp.sum(jnp.square(centred), axis=1)

        def step(carry: tuple[Array, Array], start: Array, rows: Array, fresh: Array) -> tuple[Array, Array]:
            nearest, _ = _nearest(rows - origin, centred, half_squares)
            distances = squared_distances(rows, centroids[nearest])
            assignments, squares = carry
            return (
                lax.dynamic_update_slice_in_dim(assignments, nearest, start, axis=0),
                lax.dynamic_update_slice_in_dim(squares, distances, start, axis=0),
            )

        zeros = (jnp.zeros(points.shape[0], jnp.int32), jnp.zeros(points.shape[0], jnp.float32))
        return fold_blocks(step, zeros, points, None, block_rows)

    return by_platform(fold, centroids.shape[0], points, centroids, origin)


def _nearest(
    rows: Float[Array, "block dim"], centroids: Float[Array, "clusters dim"], half_squares: Float[Array, " clusters"]
) -> tuple[Int[Array, " block"], Float[Array, " block"]]:
    """Index and value of the smallest `|c|^2 / 2 - x c`.

    Clusters come first in the score matrix, so that the minimum runs over whole vectors of points; two plain minima
    are faster on CPUs than one argmin.
    """
    products = lax.dot_general(centroids, rows, (((1,), (1,)), ((), ())), precision=HIGHEST)
    scores = half_squares[:, None] - products
    smallest = jnp.min(scores, axis=0)
    clusters = centroids.shape[0]
    candidates = jnp.where(scores == smallest, jnp.arange(clusters, dtype=jnp.int32)[:, None], clusters - 1)
    return jnp.min(candidates, axis=0), smallest


def _mean_and_scatter(
    points: Float[Array, "n dim"], real: Bool[Array, " n"] | None, axis_name: str | None
) -> tuple[Float[Array, " dim"], Float[Array, ""]]:
    """Mean of the real points, and the sum of squared distances to it, over all devices."""

    def total(points: Array, *real: Array, block_rows: int) -> tuple[Array, Array]:
        def step(carry: tuple[Array, Array], start: Array, rows: Array, fresh: Array) -> tuple[Array, Array]:
            kept = jnp.where(fresh[:, None], rows, 0)
            return carry[0] + jnp.sum(kept, axis=0), carry[1] + jnp.sum(fresh, dtype=jnp.int32)

        zeros = (jnp.zeros(points.shape[1], jnp.float32), jnp.int32(0))
        return fold_blocks(step, zeros, points, real[0] if real else None, block_rows)

    def squares(points: Array, mean: Array, *real: Array, block_rows: int) -> Array:
        def step(carry: Array, start: Array, rows: Array, fresh: Array) -> Array:
            return carry + jnp.sum(jnp.square(jnp.where(fresh[:, None], rows - mean, 0)))

        return fold_blocks(step, jnp.float32(0), points, real[0] if real else None, block_rows)

    mask = () if real is None else (real,)
    total_sum, count = sum_over_devices(by_platform(total, 1, points, *mask), axis_name)
    mean = total_sum / jnp.maximum(count, 1)
    return mean, sum_over_devices(by_platform(squares, 1, points, mean, *mask), axis_name)
