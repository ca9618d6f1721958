"""Late fusion: every input predicts the attributes by itself, and the mean of those that a recording has counts."""

from __future__ import annotations

import flax.linen as nn
import jax.numpy as jnp

from emocluster_jax.feed.split import AUDIO, Inputs, per_chunk, presence
from emocluster_jax.models.encoder import dense_init
from emocluster_jax.models.network import Network, Output, chunks_of


class LateFusion(Network):
    title = "Late fusion"
    objective = "cnn_regressor"

    @nn.compact
    def __call__(self, inputs: Inputs, *, train: bool = False) -> Output:
        shared = self.encoder(chunks_of(inputs), train=train)
        count = per_chunk(presence(inputs, AUDIO), inputs)[:, None]
        total = count * self.regress(shared)
        for name in self.config.inputs:
            layer = nn.Dense(len(self.config.attributes), kernel_init=dense_init, name=f"of_{name}")
            present = presence(inputs, name)[:, None]
            total += per_chunk(present * layer(inputs[name]), inputs)
            count += per_chunk(present, inputs)
        return Output(shared, total / jnp.maximum(count, 1.0))


NETWORK = LateFusion
