"""The encoder with the attribute regressor alone: the baseline of all other systems."""

from __future__ import annotations

import flax.linen as nn

from emocluster_jax.feed.split import Inputs
from emocluster_jax.models.network import Network, Output


class CnnRegressor(Network):
    """The paper's CNN-regressor; its embeddings are the shared layer's output."""

    title = "CNN-regressor"

    @nn.compact
    def __call__(self, inputs: Inputs, *, train: bool = False) -> Output:
        shared = self.encode(inputs, train=train)
        return Output(shared, self.regress(shared))


NETWORK = CnnRegressor
