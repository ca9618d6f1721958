"""Initial centroids of K-means, the same however the points are spread over the devices."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float

from emocluster_jax.clustering.blocks import (
    distances_to_point,
    global_row_indices,
    largest,
    rows_at,
    uniform_per_row,
)


def random_centroids(
    key: Array, points: Float[Array, "n dim"], real: Bool[Array, " n"], clusters: int, axis_name: str | None
) -> Float[Array, "clusters dim"]:
    """`clusters` different rows of the global set, each with the same chance.

    With fewer real rows than clusters, the first row drawn stands in for the missing ones.
    """
    scores = uniform_per_row(key, global_row_indices(points.shape[0], axis_name))
    scores, indices = largest(jnp.where(real, scores, -1.0), clusters, axis_name)
    return rows_at(points, jnp.where(scores > 0, indices, indices[0]), axis_name)


def plus_plus_centroids(
    key: Array, points: Float[Array, "n dim"], real: Bool[Array, " n"], clusters: int, axis_name: str | None
) -> Float[Array, "clusters dim"]:
    """k-means++ (Arthur & Vassilvitskii 2007): each further row drawn in proportion to its squared distance.

    Drawn exactly, without a normalising sum over devices: the row with the smallest Exp(1) / weight wins with
    probability weight / total.
    """
    indices = global_row_indices(points.shape[0], axis_name)

    def draw(step: Array | int, weights: Float[Array, " n"]) -> Float[Array, " dim"]:
        exponential = -jnp.log(uniform_per_row(jax.random.fold_in(key, step), indices))
        scores = jnp.where(real, jnp.log(weights) - jnp.log(exponential), -jnp.inf)
        return rows_at(points, largest(scores, 1, axis_name)[1], axis_name)[0]

    def body(
        step: Array, state: tuple[Float[Array, "clusters dim"], Float[Array, " n"]]
    ) -> tuple[Float[Array, "clusters dim"], Float[Array, " n"]]:
        centroids, distances = state
        distances = jnp.minimum(distances, distances_to_point(points, centroids[step - 1]))
        return centroids.at[step].set(draw(step, distances)), distances

    first = draw(0, jnp.ones(points.shape[0], points.dtype))
    centroids = jnp.broadcast_to(first, (clusters, points.shape[1]))
    distances = jnp.full(points.shape[0], jnp.inf, points.dtype)
    return lax.fori_loop(1, clusters, body, (centroids, distances))[0]
