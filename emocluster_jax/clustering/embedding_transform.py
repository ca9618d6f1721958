"""Optional steps before clustering, as in DeepCluster: principal components, whitening, unit length."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from emocluster_jax.clustering.blocks import fold_blocks, sum_over_devices

BLOCK_ROWS = 4096


class EmbeddingTransform(NamedTuple):
    """The linear part: `(embedding - mean) @ projection`."""

    mean: Float[Array, " dim"]
    projection: Float[Array, "dim components"]


@partial(jax.jit, static_argnames=("components", "whiten", "axis_name"))
def fit_transform(
    embeddings: Float[Array, "n dim"],
    weights: Float[Array, " n"] | None = None,
    *,
    components: int,
    whiten: bool = False,
    axis_name: str | None = None,
) -> EmbeddingTransform:
    """Fits principal components, optionally whitened (Caron et al., "Deep clustering", ECCV 2018).

    Signs are chosen so that each component's entry of largest magnitude is positive. Whitening divides by the standard
    deviation; directions with a relative variance below 1e-6 become 0 instead.

    Args:
      embeddings: float32; on a mapped axis this device's part.
      weights: 1 for real rows, 0 for padding; None if all are real.
      components: at most dim; ValueError for another number.
      whiten: scale every component to unit variance.
      axis_name: mapped axis over which the embeddings are spread.
    """
    dim = embeddings.shape[1]
    if not 1 <= components <= dim:
        raise ValueError(f"components is {components}; expected 1 up to the size of an embedding, {dim}")
    embeddings = embeddings.astype(jnp.float32)
    real = None if weights is None else weights > 0

    def add(carry: tuple[Array, Array], start: Array, rows: Array, fresh: Array) -> tuple[Array, Array]:
        return carry[0] + jnp.sum(jnp.where(fresh[:, None], rows, 0), axis=0), carry[1] + jnp.sum(fresh)

    zeros = (jnp.zeros(dim), jnp.int32(0))
    total, count = sum_over_devices(fold_blocks(add, zeros, embeddings, real, BLOCK_ROWS), axis_name)
    mean = total / jnp.maximum(count, 1)

    def add_products(carry: Array, start: Array, rows: Array, fresh: Array) -> Array:
        centred = jnp.where(fresh[:, None], rows - mean, 0)
        return carry + jnp.dot(centred.T, centred, precision=lax.Precision.HIGHEST)

    products = fold_blocks(add_products, jnp.zeros((dim, dim)), embeddings, real, BLOCK_ROWS)
    covariance = sum_over_devices(products, axis_name) / jnp.maximum(count, 1)
    variances, directions = jnp.linalg.eigh(covariance)
    variances, directions = variances[::-1][:components], directions[:, ::-1][:, :components]
    largest = jnp.take_along_axis(directions, jnp.argmax(jnp.abs(directions), axis=0)[None], axis=0)
    directions = directions * jnp.where(largest < 0, -1.0, 1.0)
    if whiten:
        varies = variances > 1e-6 * variances[0]
        directions = directions * jnp.where(varies, lax.rsqrt(jnp.where(varies, variances, 1.0)), 0.0)
    return EmbeddingTransform(mean, directions)


@partial(jax.jit, static_argnames="l2_normalize")
def transform(
    embeddings: Float[Array, "n dim"], fitted: EmbeddingTransform | None, *, l2_normalize: bool = False
) -> Float[Array, "n components"]:
    """The embeddings as they are clustered and compared with centroids: projected, if `fitted`, and of unit length."""
    if fitted is not None:
        embeddings = jnp.dot(embeddings - fitted.mean, fitted.projection, precision=lax.Precision.HIGHEST)
    return unit_length(embeddings) if l2_normalize else embeddings


def unit_length(rows: Float[Array, "n dim"]) -> Float[Array, "n dim"]:
    """Every row scaled to unit length; zeros stay zeros, and rows of infinite length become NaN."""
    length = jnp.linalg.norm(rows, axis=1, keepdims=True)
    scale = jnp.where(jnp.isfinite(length) & (length > 0), length, jnp.nan)
    return jnp.where(length == 0, 0.0, rows / scale)
