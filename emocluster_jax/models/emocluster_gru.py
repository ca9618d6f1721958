"""DeepEmoCluster with a recurrent network over a recording's chunks: the Temp-GRU of Lin & Busso.

W.-C. Lin and C. Busso, "Deep temporal clustering features for speech emotion recognition", Speech Communication 157,
2024.
"""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from emocluster_jax.models.emocluster import EmoCluster


class BidirectionalGru(nn.Module):
    """One bidirectional layer of gated recurrent units (Cho et al. 2014), half of the outputs from either direction.

    As in PyTorch, the reset gate acts on the recurrent product and its bias, and all numbers are drawn uniformly from
    ±1 / √units.
    """

    @nn.compact
    def __call__(self, shared: Float[Array, "recordings chunks E"]) -> Float[Array, "recordings chunks E"]:
        width = shared.shape[-1]
        forward, backward = (
            nn.RNN(_cell(units, name)) for name, units in (("forward", width - width // 2), ("backward", width // 2))
        )
        outputs: Any = nn.Bidirectional(forward, backward)(shared)
        return outputs


def _cell(units: int, name: str) -> nn.GRUCell:
    def init(key: Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> Array:
        return jax.random.uniform(key, shape, dtype, -(units**-0.5), units**-0.5)

    return nn.GRUCell(units, kernel_init=init, recurrent_kernel_init=init, bias_init=init, name=name)


class EmoClusterGru(EmoCluster):
    """Temp-GRU: both heads read a bidirectional GRU's outputs, 128 numbers (scaled) of each direction."""

    title = "DeepEmoCluster Temp-GRU"
    objective = "emocluster"
    whole_recordings = across_chunks = True

    def over_chunks(
        self, shared: Float[Array, "recordings chunks E"], *, train: bool
    ) -> Float[Array, "recordings chunks E"]:
        return BidirectionalGru(name="temporal")(shared)


NETWORK = EmoClusterGru
