"""Passes over the rows of a large array, one cache-sized block at a time."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from emocluster_jax.runtime import platforms

Carry = TypeVar("Carry")
Result = TypeVar("Result")

Rows = Float[Array, "n dim"]
Numbers = Float[Array, " n"]
Mask = Bool[Array, " n"]
Centroids = Float[Array, "clusters dim"]
Assignments = Int[Array, " n"]
"""The number of each row's cluster."""


def fold_blocks(
    step: Callable[[Carry, Int[Array, ""], Float[Array, "block dim"], Bool[Array, " block"]], Carry],
    carry: Carry,
    points: Rows,
    real: Mask | None,
    block_rows: int,
) -> Carry:
    """Folds `step(carry, start, rows, fresh) -> carry` over consecutive blocks of at most `block_rows` rows.

    `rows` are `points[start:start + block]`, of which only those marked `fresh` count: the last block starts early
    enough to be full, so that no padded copy is made, and rows that are not `real` never count.
    """
    count = points.shape[0]
    block = min(block_rows, count)
    blocks = -(-count // block)

    def body(carry: Carry, index: Int[Array, ""]) -> tuple[Carry, None]:
        start = jnp.minimum(index * block, count - block)
        rows = lax.dynamic_slice_in_dim(points, start, block)
        fresh = start + jnp.arange(block) >= index * block
        if real is not None:
            fresh &= lax.dynamic_slice_in_dim(real, start, block)
        return step(carry, start, rows, fresh), None

    return lax.scan(body, carry, jnp.arange(blocks))[0]


def by_platform(
    function: Callable[..., Result], clusters: int, *operands: Any, on_cpu: Callable[..., Result] | None = None
) -> Result:
    """`function(*operands, block_rows=...)`, on CPUs `on_cpu`, with blocks that suit the platform.

    On a CPU, blocks leave much of the cache to the scores, but are large enough to be worth starting each operation.
    Accelerators need few large blocks, with scores well below the size of the points; 32,768 rows of 256 numbers are
    still in the 50 MB of cache of an H100 or H200 when the clusters' sums read them again.
    """
    return platforms.choose(
        partial(on_cpu or function, block_rows=max(1024, min(8192, 2**20 // clusters))),
        partial(function, block_rows=max(1024, min(32768, 2**23 // clusters))),
        *operands,
    )


def squared_distances(points: Rows, centroids: Centroids, assignments: Assignments | None = None) -> Numbers:
    """Squared Euclidean distance of every row to its centroid, or to the only one without assignments.

    By differences, so that equal rows have distance 0, and by blocks, which is several times faster on CPUs.
    """

    def fold(points: Array, centroids: Array, assignments: Array | None, *, block_rows: int) -> Array:
        def step(distances: Array, start: Array, rows: Array, fresh: Array) -> Array:
            own = centroids
            if assignments is not None:
                own = centroids[lax.dynamic_slice_in_dim(assignments, start, len(rows))]
            found = jnp.sum(jnp.square(rows - own), axis=-1)
            return lax.dynamic_update_slice_in_dim(distances, found, start, axis=0)

        return fold_blocks(step, jnp.zeros(points.shape[0], points.dtype), points, None, block_rows)

    return by_platform(fold, 1, points, centroids, assignments)


def global_row_indices(count: int, axis_name: str | None) -> Int[Array, " n"]:
    """Global indices of this device's `count` rows, which are counted device by device."""
    offset = 0 if axis_name is None else lax.axis_index(axis_name) * count
    return offset + jnp.arange(count)


def rows_at(points: Rows, indices: Int[Array, " k"], axis_name: str | None) -> Float[Array, "k dim"]:
    """The rows with these global indices, on every device."""
    if axis_name is None:
        return points[indices]
    local = indices - lax.axis_index(axis_name) * points.shape[0]
    here = (local >= 0) & (local < points.shape[0])
    rows = jnp.where(here[:, None], points[jnp.clip(local, 0, points.shape[0] - 1)], 0)
    return lax.psum(rows, axis_name)


def largest(values: Numbers, count: int, axis_name: str | None) -> tuple[Float[Array, " count"], Int[Array, " count"]]:
    """The `count` largest values over all devices and their global row indices; ties go to the lowest index."""
    top, indices = lax.top_k(values, min(count, values.shape[0]))
    # The barriers keep XLA from merging later slices into top_k, which would make it a full sort on CPUs. A single
    # barrier around both makes its compiler abort.
    top, indices = lax.optimization_barrier(top), lax.optimization_barrier(indices)
    if axis_name is None:
        return top, indices
    indices = indices + lax.axis_index(axis_name) * values.shape[0]
    # Device by device, equal values stay in the order of their rows, which the stable top_k keeps.
    top = lax.all_gather(top, axis_name, tiled=True)
    indices = lax.all_gather(indices, axis_name, tiled=True)
    top, order = lax.top_k(top, count)
    return top, indices[order]


def sum_over_devices(tree: Carry, axis_name: str | None) -> Carry:
    """Sums every leaf over the devices of `axis_name`, if there is one."""
    return tree if axis_name is None else lax.psum(tree, axis_name)


def uniform_per_row(key: Array, indices: Int[Array, " n"]) -> Numbers:
    """A number in (0, 1) per row that depends on its global index alone, not on how the rows are spread."""
    smallest = jnp.finfo(jnp.float32).tiny
    return jax.vmap(lambda i: jax.random.uniform(jax.random.fold_in(key, i), minval=smallest))(indices)
