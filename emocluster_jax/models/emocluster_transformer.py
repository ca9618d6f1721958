"""DeepEmoCluster with self-attention over a recording's chunks: the Temp-Trans of Lin & Busso.

W.-C. Lin and C. Busso, "Deep temporal clustering features for speech emotion recognition", Speech Communication 157,
2024.
"""

from __future__ import annotations

import flax.linen as nn
import numpy as np
from jaxtyping import Array, Float, Float32

from emocluster_jax.config import ModelConfig
from emocluster_jax.models.emocluster import EmoCluster
from emocluster_jax.models.encoder import DENSE_WIDTH, dense_init, scaled_width

_EPSILON = 1e-5
"""Of layer normalisation, as in PyTorch."""


def positions(chunks: int, width: int) -> Float32[np.ndarray, "chunks width"]:
    """Sinusoidal encodings of places: sines in the even columns and cosines in the odd ones (Vaswani et al. 2017)."""
    columns = np.arange(width)
    angles = np.arange(chunks)[:, None] / 10_000 ** (columns // 2 * 2 / width)
    return np.where(columns % 2 == 0, np.sin(angles), np.cos(angles)).astype(np.float32)


class TransformerLayer(nn.Module):
    """One encoder layer of a Transformer with a single head, on the chunks with their positions added.

    Layer normalisation comes after each residual sum, as in Vaswani et al., "Attention is all you need", NeurIPS 2017;
    dropout is on the attention's weights, the hidden layer, and both summands.
    """

    config: ModelConfig

    @nn.compact
    def __call__(
        self, shared: Float[Array, "recordings chunks E"], *, train: bool
    ) -> Float[Array, "recordings chunks E"]:
        _, chunks, width = shared.shape
        rate = self.config.temporal_dropout_rate
        dropout = nn.Dropout(rate, deterministic=not train)
        attention = nn.MultiHeadDotProductAttention(
            num_heads=1,
            dropout_rate=rate,
            broadcast_dropout=False,
            deterministic=not train,
            # Query, key and value are drawn as the one matrix that they are in PyTorch: uniformly, ±√(6 / (E + 3E)).
            kernel_init=nn.initializers.variance_scaling(0.5, "fan_avg", "uniform"),
            out_kernel_init=dense_init,
            name="attention",
        )
        x = shared + positions(chunks, width)
        x = self._norm("norm_0")(x + dropout(attention(x, x)))
        hidden = nn.relu(self._dense(scaled_width(DENSE_WIDTH, self.config), "dense_0")(x))
        return self._norm("norm_1")(x + dropout(self._dense(width, "dense_1")(dropout(hidden))))

    def _dense(self, width: int, name: str) -> nn.Dense:
        return nn.Dense(width, kernel_init=dense_init, name=name)

    def _norm(self, name: str) -> nn.LayerNorm:
        # The fast variance, a difference of moments, loses digits where the deviation is small beside the mean.
        return nn.LayerNorm(epsilon=_EPSILON, use_fast_variance=False, name=name)


class EmoClusterTransformer(EmoCluster):
    """Temp-Trans: both heads read the outputs of a Transformer's layer over a recording's chunks."""

    title = "DeepEmoCluster Temp-Trans"
    objective = "emocluster"
    whole_recordings = across_chunks = True

    def over_chunks(
        self, shared: Float[Array, "recordings chunks E"], *, train: bool
    ) -> Float[Array, "recordings chunks E"]:
        return TransformerLayer(self.config, name="temporal")(shared, train=train)


NETWORK = EmoClusterTransformer
