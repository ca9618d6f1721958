"""Re-seeding of empty clusters in K-means."""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from emocluster_jax.clustering import blocks
from emocluster_jax.clustering.blocks import Assignments, Centroids, Mask, Numbers, Rows


class _State(NamedTuple):
    """State of the loop over empty clusters; n are the rows of this device."""

    centroids: Centroids
    assignments: Assignments
    distances: Numbers
    counts: Int[Array, " clusters"]
    farthest: Int[Array, ""]
    """Global index of the row farthest from its centroid."""
    distance: Float[Array, ""]
    """Its squared distance."""
    moved: Int[Array, ""]


def reseed_empty(
    points: Rows, real: Mask, centroids: Centroids, assignments: Assignments, distances: Numbers, axis_name: str | None
) -> tuple[Centroids, Assignments, Numbers, Int[Array, ""]]:
    """Moves empty clusters, the lowest index first, each to the point that is then farthest from its centroid.

    A moved cluster takes over the points that are nearer to it. A point that became a centroid keeps its cluster, so no
    cluster is moved twice and the loop ends: without empty clusters, or with every point equal to its centroid if there
    are fewer distinct points than clusters. With infinite points, it ends after as many moves as there are clusters.

    Returns centroids, assignments and squared distances afterwards, and the number of clusters moved.
    """
    clusters = centroids.shape[0]

    def counts_of(assignments: Assignments) -> Int[Array, " clusters"]:
        counts = jnp.zeros(clusters, jnp.int32).at[assignments].add(real.astype(jnp.int32))
        return blocks.sum_over_devices(counts, axis_name)

    def state_of(centroids: Array, assignments: Array, distances: Array, moved: Array) -> _State:
        distance, farthest = blocks.largest(jnp.where(real, distances, -1.0), 1, axis_name)
        counts = counts_of(assignments)
        return _State(centroids, assignments, distances, counts, farthest[0], distance[0], moved)

    def move_one(state: _State) -> _State:
        empty = jnp.argmax(state.counts == 0).astype(jnp.int32)
        point = blocks.rows_at(points, state.farthest[None], axis_name)[0]
        to_point = blocks.squared_distances(points, point[None])
        nearer = to_point < state.distances
        return state_of(
            state.centroids.at[empty].set(point),
            jnp.where(nearer, empty, state.assignments),
            jnp.where(nearer, to_point, state.distances),
            state.moved + 1,
        )

    def reseed() -> tuple[Array, Array, Array, Array]:
        snapped, exact = _snap_constant(points, real, centroids, assignments, distances, axis_name)
        state = lax.while_loop(
            lambda state: jnp.any(state.counts == 0) & (state.distance > 0) & (state.moved < clusters),
            move_one,
            state_of(snapped, assignments, exact, jnp.int32(0)),
        )
        return state.centroids, state.assignments, state.distances, state.moved

    kept = centroids, assignments, distances, jnp.int32(0)
    return lax.cond(jnp.any(counts_of(assignments) == 0), reseed, lambda: kept)


def _snap_constant(
    points: Rows, real: Mask, centroids: Centroids, assignments: Assignments, distances: Numbers, axis_name: str | None
) -> tuple[Centroids, Numbers]:
    """Makes the centroid of a cluster of equal points exactly that point, from which a mean differs by rounding.

    Points that are not finite equal none.
    """
    clusters = centroids.shape[0]
    indices = blocks.global_row_indices(points.shape[0], axis_name)
    none = jnp.iinfo(jnp.int32).max
    first = jnp.full(clusters, none).at[assignments].min(jnp.where(real, indices, none))
    first = first if axis_name is None else lax.pmin(first, axis_name)
    firsts = blocks.rows_at(points, jnp.where(first == none, 0, first), axis_name)

    def fold(
        points: Array, real: Array, assignments: Array, firsts: Array, varied: Array, *, block_rows: int
    ) -> Bool[Array, " clusters"]:
        def step(varied: Array, start: Array, rows: Array, fresh: Array) -> Array:
            members = lax.dynamic_slice_in_dim(assignments, start, rows.shape[0])
            differs = (rows != firsts[members]) | ~jnp.isfinite(rows)
            return varied.at[members].max(fresh & jnp.any(differs, axis=1))

        return blocks.fold_blocks(step, varied, points, real, block_rows)

    varied = blocks.by_platform(fold, clusters, points, real, assignments, firsts, jnp.zeros(clusters, bool))
    varied = blocks.sum_over_devices(varied.astype(jnp.int32), axis_name)
    constant = (varied == 0) & (first != none)
    return jnp.where(constant[:, None], firsts, centroids), jnp.where(constant[assignments], 0.0, distances)
