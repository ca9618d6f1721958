"""A temporal network: to each chunk's numbers it adds a layer over the mean of all chunks up to this one."""

from __future__ import annotations

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from emocluster_jax.models.emocluster import EmoCluster
from emocluster_jax.models.encoder import dense_init


class PastMean(EmoCluster):
    title = "DeepEmoCluster with past means"
    objective = "emocluster"
    whole_recordings = across_chunks = True

    def over_chunks(
        self, shared: Float[Array, "recordings chunks E"], *, train: bool
    ) -> Float[Array, "recordings chunks E"]:
        _, chunks, width = shared.shape
        means = jnp.cumsum(shared, axis=1) / jnp.arange(1, chunks + 1)[:, None]
        return shared + nn.Dense(width, kernel_init=dense_init, name="past")(means)


NETWORK = PastMean
