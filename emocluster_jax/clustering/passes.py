"""One pass of Lloyd's algorithm over the points: the nearest centroid of each, and the clusters' sums.

Accelerators read all points in each pass, from a copy without their mean: to subtract it takes as long as to read them.
On CPUs, where memory is scarce and arithmetic expensive, a pass subtracts the mean from the rows at hand, skips the
points that cannot have changed their cluster, and corrects the clusters' sums by those that did: after a few
iterations, both are few. Assignments are the same up to ties within rounding.

Source: G. Hamerly, "Making k-means even faster", SIAM International Conference on Data Mining (2010).
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

from emocluster_jax.clustering.blocks import Assignments, Centroids, Mask, Numbers, Rows, by_platform, fold_blocks
from emocluster_jax.runtime import platforms

HIGHEST = lax.Precision.HIGHEST

# With more clusters, the nearest two are too close together for bounds on their distances to save anything.
_MOST_BOUNDED_CLUSTERS = 128
# Above the rounding errors of scores of a few hundred dimensions, relative to |x|^2 about the mean of all points.
_SLACK = 4e-6


class Points(NamedTuple):
    """This device's rows, and what all passes need to know of them."""

    points: Rows
    """On a CPU as they are; on accelerators without the mean, and 0 where they do not count."""
    real: Mask
    """Rows that count."""
    squares: Numbers
    """Squared distances to the mean."""
    mean: Float[Array, " dim"]
    """Of the points of all devices."""


class Assigned(NamedTuple):
    """The clusters of this device's n points after a pass."""

    assignments: Assignments
    """The nearest centroid; K for padding rows, and before the first pass."""
    upper: Numbers
    """No less than the distance to the nearest centroid."""
    lower: Numbers
    """No more than the distance to every other centroid."""
    sums: Centroids
    """Per cluster, the sum of its points' differences from the overall mean."""
    counts: Int[Array, " clusters"]


def known_points(points: Rows, real: Mask, squares: Numbers, mean: Float[Array, " dim"]) -> Points:
    """The points as this platform's passes read them."""

    def centred(points: Array, real: Array, squares: Array, mean: Array) -> Points:
        # Rows that do not count may hold NaN, which must not get into the sums.
        return Points(jnp.where(real[:, None], points - mean, 0), real, squares, mean)

    return platforms.choose(Points, centred, points, real, squares, mean)


def nothing_assigned(count: int, dim: int, clusters: int) -> Assigned:
    """Before the first pass."""
    sums, counts = jnp.zeros((clusters, dim)), jnp.zeros(clusters, jnp.int32)
    return Assigned(jnp.full(count, clusters, jnp.int32), jnp.full(count, jnp.inf), jnp.zeros(count), sums, counts)


def assign_points(known: Points, centroids: Centroids, before: Centroids, assigned: Assigned) -> Assigned:
    """Assigns every real point to its nearest centroid (ties go to the lowest index), and sums up the clusters.

    `before` are the centroids of the previous pass, and `assigned` its result; before the first any, and
    `nothing_assigned`.
    """
    return by_platform(_dense_pass, len(centroids), known, centroids, before, assigned, on_cpu=_bounded_pass)


def nearest(
    rows: Float[Array, "block dim"], centroids: Centroids
) -> tuple[Int[Array, " block"], Float[Array, " block"], Float[Array, "clusters block"]]:
    """Index and value of the smallest score `|c|^2 / 2 - x c` of every row, and all scores.

    Clusters come first in the score matrix, so that minima run over whole vectors of points; two minima are faster on
    CPUs than one argmin.
    """
    half_squares = 0.5 * jnp.sum(jnp.square(centroids), axis=1)
    products = lax.dot_general(centroids, rows, (((1,), (1,)), ((), ())), precision=HIGHEST)
    scores = half_squares[:, None] - products
    smallest = jnp.min(scores, axis=0)
    clusters = centroids.shape[0]
    candidates = jnp.where(scores == smallest, _numbers(clusters), clusters - 1)
    return jnp.min(candidates, axis=0), smallest, scores


def _numbers(clusters: int) -> Int[Array, "clusters 1"]:
    return jnp.arange(clusters, dtype=jnp.int32)[:, None]


def _dense_pass(known: Points, centroids: Array, before: Array, assigned: Assigned, *, block_rows: int) -> Assigned:
    """All points, block by block; the bounds stay as they are."""
    points, real, _, mean = known
    clusters, centred = centroids.shape[0], centroids - mean

    def step(carry: tuple[Array, Array, Array], start: Array, rows: Array, fresh: Array) -> tuple[Array, Array, Array]:
        assignments, sums, counts = carry
        index, _, _ = nearest(rows, centred)
        members = jnp.where(fresh, index, clusters) == _numbers(clusters)
        index = jnp.where(lax.dynamic_slice_in_dim(real, start, len(rows)), index, clusters)
        return (
            lax.dynamic_update_slice_in_dim(assignments, index, start, axis=0),
            sums + jnp.dot(members.astype(jnp.float32), rows, precision=HIGHEST),
            counts + jnp.sum(members, axis=1, dtype=jnp.int32),
        )

    zeros = (assigned.assignments, jnp.zeros_like(centroids), jnp.zeros(clusters, jnp.int32))
    assignments, sums, counts = fold_blocks(step, zeros, points, real, block_rows)
    return Assigned(assignments, assigned.upper, assigned.lower, sums, counts)


def _bounded_pass(known: Points, centroids: Array, before: Array, assigned: Assigned, *, block_rows: int) -> Assigned:
    """The points with bounds that overlap after the centroids' moves, block by block."""
    points, real, squares, mean = known
    count, clusters = len(points), len(centroids)
    assigned, doubtful = _after_moves(assigned, centroids, before)
    order, doubtful_count = _first_rows(doubtful & real)
    block = min(count, block_rows)

    def step(i: Array, assigned: Assigned) -> Assigned:
        # The last block overlaps the previous one: repeating a row changes nothing.
        start = jnp.minimum(i * block, jnp.maximum(doubtful_count - block, 0))
        ids = lax.dynamic_slice_in_dim(order, start, block)
        rows, square, old = (x.at[ids].get(mode="clip") for x in (points, squares, assigned.assignments))
        rows = jnp.where((ids < count)[:, None], rows - mean, 0)
        index, score, scores = nearest(rows, centroids - mean)
        index = jnp.where(ids < count, index, old)
        upper = jnp.sqrt(jnp.maximum(square * (1 + _SLACK) + 2 * score, 0))
        if clusters <= _MOST_BOUNDED_CLUSTERS:
            second = jnp.min(jnp.where(_numbers(clusters) == index, jnp.inf, scores), axis=0)
            lower = jnp.sqrt(jnp.maximum(square * (1 - _SLACK) + 2 * second, 0))
        else:
            lower = jnp.zeros_like(upper)
        sums, counts = _moved_rows(assigned.sums, assigned.counts, rows, old, index)
        return Assigned(
            assigned.assignments.at[ids].set(index, mode="drop"),
            assigned.upper.at[ids].set(upper, mode="drop"),
            assigned.lower.at[ids].set(lower, mode="drop"),
            sums,
            counts,
        )

    return lax.fori_loop(0, -(-doubtful_count // block), step, assigned)


def _after_moves(assigned: Assigned, centroids: Centroids, before: Centroids) -> tuple[Assigned, Mask]:
    """The bounds after the centroids' moves, and the points that may have another nearest centroid now."""
    moves = jnp.sqrt(jnp.sum(jnp.square(centroids - before), axis=1)) * (1 + 1e-5)
    farthest = jnp.argmax(moves)
    elsewhere = jnp.max(jnp.where(jnp.arange(len(moves)) == farthest, 0, moves))
    upper = assigned.upper + moves[assigned.assignments]
    lower = assigned.lower - jnp.where(assigned.assignments == farthest, elsewhere, moves[farthest])
    doubtful = (upper >= lower) & ((moves[farthest] > 0) | (upper == jnp.inf))
    return assigned._replace(upper=upper, lower=lower), doubtful


def _first_rows(chosen: Mask) -> tuple[Int[Array, " n"], Int[Array, ""]]:
    """Numbers of the chosen rows, followed by n for each other row; and how many are chosen."""
    count = len(chosen)
    ends = jnp.cumsum(chosen.astype(jnp.int32))
    places = jnp.where(chosen, ends - 1, count)
    order = jnp.full(count, count, jnp.int32).at[places].set(jnp.arange(count, dtype=jnp.int32), mode="drop")
    return order, ends[-1]


def _moved_rows(
    sums: Centroids,
    counts: Int[Array, " clusters"],
    rows: Float[Array, "block dim"],
    old: Int[Array, " block"],
    new: Int[Array, " block"],
) -> tuple[Centroids, Int[Array, " clusters"]]:
    """Sums and counts of the clusters after rows have moved from `old` to `new` ones; K stands for none."""
    clusters, few = len(sums), max(1, len(rows) // 16)
    order, changed = _first_rows(old != new)

    def take(rows: Array, old: Array, new: Array, weights: Array | None = None) -> tuple[Array, Array]:
        difference = (new == _numbers(clusters)).astype(jnp.float32) - (old == _numbers(clusters))
        if weights is not None:
            difference = difference * weights
        added = jnp.dot(difference, rows, precision=HIGHEST), jnp.sum(difference, axis=1).astype(jnp.int32)
        return sums + added[0], counts + added[1]

    def take_few() -> tuple[Array, Array]:
        chosen, before, after = (x.at[order[:few]].get(mode="clip") for x in (rows, old, new))
        return take(chosen, before, after, (jnp.arange(few) < changed).astype(jnp.float32))

    which = (changed > 0).astype(jnp.int32) + (changed > few)
    return lax.switch(which, [lambda: (sums, counts), take_few, lambda: take(rows, old, new)])
