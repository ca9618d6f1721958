"""The two dense layers on top of the shared one, of which every system has some."""

from __future__ import annotations

import flax.linen as nn
from jaxtyping import Array, Float

from emocluster_jax.models.encoder import dense_init


class Head(nn.Module):
    """Dense, ReLU, dense; the hidden layer is returned before its ReLU."""

    width: int
    outputs: int

    @nn.compact
    def __call__(self, shared: Float[Array, "n e"]) -> tuple[Float[Array, "n w"], Float[Array, "n o"]]:
        hidden = nn.Dense(self.width, kernel_init=dense_init, name="hidden")(shared)
        return hidden, nn.Dense(self.outputs, kernel_init=dense_init, name="output")(nn.relu(hidden))
