"""Lloyd's K-means on one device or on points spread over the devices of a mapped axis.

Each iteration goes through the points block by block: distances, assignments and the clusters' sums are computed while
the block is in cache, and no (points, clusters) matrix ever exists. Distances within an iteration are
`|c|^2 / 2 - x c` (up to a constant) about the mean of all points, so that their rounding errors depend on the spread of
the points and not on their distance from the origin; the final squared distances are sums of squared differences.

Source: S. Lloyd, "Least squares quantization in PCM", IEEE Transactions on Information Theory 28 (1982).
"""

from __future__ import annotations

from functools import partial
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

from emocluster_jax.clustering import blocks
from emocluster_jax.clustering.blocks import Assignments, Centroids, Mask, Numbers, Rows
from emocluster_jax.clustering.embedding_transform import unit_length
from emocluster_jax.clustering.passes import Assigned, assign_points, known_points, nothing_assigned
from emocluster_jax.clustering.reseeding import reseed_empty


class KMeansResult(NamedTuple):
    """The result of `kmeans`, for the n rows of this device."""

    centroids: Centroids
    assignments: Assignments
    """Index of the nearest centroid (int32); undefined for padding rows."""
    objective: Float[Array, ""]
    """Sum of squared distances to the returned centroids, over all devices; infinite or NaN if a point is."""
    objectives: Float[Array, " iterations"]
    """The same before each update of the centroids; rounded to about 1e-6 of the points' scatter."""
    reseeded: Int[Array, ""]
    """How often an empty cluster was re-seeded."""


_State = tuple[Array, Array, Assigned, Array]
"""The centroids of the last pass and the current ones, the clusters of the points, and how many were re-seeded."""


@partial(jax.jit, static_argnames=("clusters", "iterations", "initialization", "spherical", "axis_name"))
def kmeans(
    key: Array,
    points: Rows,
    weights: Numbers | None = None,
    *,
    clusters: int,
    iterations: int = 20,
    initialization: Literal["random", "kmeans++"] = "random",
    initial_centroids: Centroids | None = None,
    spherical: bool = False,
    axis_name: str | None = None,
) -> KMeansResult:
    """Clusters points by Lloyd's algorithm.

    Empty clusters are re-seeded from the points farthest from their centroids, one by one with distances updated in
    between, also after the last assignment: K clusters come back whenever there are K distinct points (squared
    distances above 0 in float32); otherwise the remaining ones stay empty. Ties go to the lowest index. If a point is
    not finite, the clusters mean nothing, and the objective is not finite either. All results but `assignments` are the
    same on every device.

    Args:
      key: random key of the initial centroids; the same on all devices.
      points: float32; on a mapped axis this device's equal share of them, in order.
      weights: 1 for real rows, 0 for padding, which comes last in the global order; None if all are real.
      clusters: K, from 1 to the number of rows; otherwise ValueError.
      iterations: updates of the centroids.
      initialization: "random" draws K different rows, "kmeans++" spreads them; the same for any number of devices.
      initial_centroids: to start from instead.
      spherical: scale the centroids to unit length after each update, for points of unit length: the nearest centroid
        is then the one with the largest cosine (Dhillon & Modha, "Concept decompositions for large sparse text data
        using clustering", Machine Learning 42, 2001).
      axis_name: mapped axis over which the points are spread.
    """
    count, dim = points.shape
    total_rows = count * (1 if axis_name is None else lax.axis_size(axis_name))
    if not 1 <= clusters <= total_rows:
        raise ValueError(f"clusters is {clusters}; expected 1 up to the number of rows, {total_rows}")
    if initial_centroids is not None and initial_centroids.shape != (clusters, dim):
        raise ValueError(f"initial_centroids has shape {initial_centroids.shape}; expected {(clusters, dim)}")
    points = points.astype(jnp.float32)
    real = jnp.ones(count, bool) if weights is None else weights > 0

    if initial_centroids is not None:
        centroids = initial_centroids.astype(jnp.float32)
    elif initialization == "random":
        centroids = _random_centroids(key, points, real, clusters, axis_name)
    elif initialization == "kmeans++":
        centroids = _plus_plus_centroids(key, points, real, clusters, axis_name)
    else:
        raise ValueError(f"initialization is {initialization!r}; expected 'random' or 'kmeans++'")

    mean, squares = _mean_and_squares(points, real, axis_name)
    known = known_points(points, real, squares, mean)
    scatter = blocks.sum_over_devices(jnp.sum(squares), axis_name)
    nothing = nothing_assigned(count, dim, clusters)

    def iterate(state: _State, _: None) -> tuple[_State, Array]:
        before, centroids, assigned, reseeded = state
        assigned = assign_points(known, centroids, before, assigned)
        sums, counts = blocks.sum_over_devices((assigned.sums, assigned.counts), axis_name)
        centred = centroids - mean
        from_centroids = jnp.sum(counts * jnp.sum(jnp.square(centred), axis=1)) - 2 * jnp.sum(centred * sums)
        objective = jnp.maximum(scatter + from_centroids, 0.0)

        def reseed() -> tuple[Array, Assigned, Array, Array, Array]:
            own = jnp.minimum(assigned.assignments, clusters - 1)
            distances = blocks.squared_distances(points, centroids, own)
            moved, _, _, times = reseed_empty(points, real, centroids, own, distances, axis_name)
            again = assign_points(known, moved, moved, nothing)
            return moved, again, *blocks.sum_over_devices((again.sums, again.counts), axis_name), times

        kept = centroids, assigned, sums, counts, jnp.int32(0)
        before, assigned, sums, counts, times = lax.cond(jnp.any(counts == 0), reseed, lambda: kept)
        means = mean + sums / jnp.maximum(counts, 1)[:, None]
        if spherical:
            means = unit_length(means)
        centroids = jnp.where(counts[:, None] > 0, means, before)
        return (before, centroids, assigned, reseeded + times), objective

    start = (centroids, centroids, nothing, jnp.int32(0))
    (before, centroids, assigned, reseeded), objectives = lax.scan(iterate, start, length=iterations)
    assigned = assign_points(known, centroids, before, assigned)
    assignments = jnp.minimum(assigned.assignments, clusters - 1)
    distances = blocks.squared_distances(points, centroids, assignments)
    centroids, assignments, distances, times = reseed_empty(points, real, centroids, assignments, distances, axis_name)
    objective = blocks.sum_over_devices(jnp.sum(jnp.where(real, distances, 0)), axis_name)
    return KMeansResult(centroids, assignments, objective, objectives, reseeded + times)


@jax.jit
def assign(points: Rows, centroids: Centroids) -> tuple[Assignments, Numbers]:
    """The nearest centroid of each point and the squared distance to it; ties go to the lowest index.

    For batches of points: it may take memory for n x clusters x dim numbers.
    """
    distances = jnp.sum((points[:, None] - centroids) ** 2, axis=2)
    return distances.argmin(axis=1).astype(jnp.int32), distances.min(axis=1)


def _mean_and_squares(points: Rows, real: Mask, axis_name: str | None) -> tuple[Float[Array, " dim"], Numbers]:
    """Mean of all real points, and this device's squared distances to it; 0 for padding."""

    def total(points: Array, real: Array, *, block_rows: int) -> Array:
        def step(carry: Array, start: Array, rows: Array, fresh: Array) -> Array:
            return carry + jnp.sum(jnp.where(fresh[:, None], rows, 0), axis=0)

        return blocks.fold_blocks(step, jnp.zeros(points.shape[1], jnp.float32), points, real, block_rows)

    sums = blocks.sum_over_devices(blocks.by_platform(total, 1, points, real), axis_name)
    count = blocks.sum_over_devices(jnp.sum(real, dtype=jnp.int32), axis_name)
    mean = sums / jnp.maximum(count, 1)
    return mean, jnp.where(real, blocks.squared_distances(points, mean[None]), 0)


def _random_centroids(key: Array, points: Rows, real: Mask, clusters: int, axis_name: str | None) -> Centroids:
    """Different rows of the global set with equal chances; the first one fills up if there are too few rows."""
    scores = blocks.uniform_per_row(key, blocks.global_row_indices(points.shape[0], axis_name))
    scores, indices = blocks.largest(jnp.where(real, scores, -1.0), clusters, axis_name)
    return blocks.rows_at(points, jnp.where(scores > 0, indices, indices[0]), axis_name)


def _plus_plus_centroids(key: Array, points: Rows, real: Mask, clusters: int, axis_name: str | None) -> Centroids:
    """k-means++ (Arthur & Vassilvitskii 2007): each further row is drawn in proportion to its squared distance.

    This is exact without a normalising sum over devices: the row with the smallest Exp(1) / weight wins with
    probability weight / total.
    """
    indices = blocks.global_row_indices(points.shape[0], axis_name)

    def draw(step: Array | int, weights: Numbers) -> Float[Array, " dim"]:
        exponential = -jnp.log(blocks.uniform_per_row(jax.random.fold_in(key, step), indices))
        scores = jnp.where(real, jnp.log(weights) - jnp.log(exponential), -jnp.inf)
        return blocks.rows_at(points, blocks.largest(scores, 1, axis_name)[1], axis_name)[0]

    def body(step: Array, state: tuple[Array, Array]) -> tuple[Array, Array]:
        centroids, distances = state
        distances = jnp.minimum(distances, blocks.squared_distances(points, centroids[step - 1][None]))
        return centroids.at[step].set(draw(step, distances)), distances

    first = draw(0, jnp.ones(points.shape[0], points.dtype))
    centroids = jnp.broadcast_to(first, (clusters, points.shape[1]))
    distances = jnp.full(points.shape[0], jnp.inf, points.dtype)
    return lax.fori_loop(1, clusters, body, (centroids, distances))[0]
