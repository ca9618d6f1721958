"""The VGG-style convolutional encoder that every system of this project shares (paper, figure 2)."""

from __future__ import annotations

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from emocluster_jax.config import ModelConfig

CONVOLUTION_WIDTHS = (32, 32, 64, 64, 128, 128, 128)
CONVOLUTION_STRIDES = (1, 1, 2, 2, 2, 2, 2)
DENSE_WIDTH = 256


def convolution_init(key: jax.Array, shape: Sequence[int], dtype: jnp.dtype = jnp.float32) -> Array:
    """N(0, 2 / (9 out)): He's initialisation for the fan-out of a 3x3 convolution (He et al. 2015)."""
    return jax.random.normal(key, shape, dtype) * jnp.sqrt(2.0 / (9 * shape[-1])).astype(dtype)


dense_init = nn.initializers.normal(stddev=0.01)
"""N(0, 0.01 squared), for every dense layer; biases start at zero."""


def scaled_width(width: int, config: ModelConfig) -> int:
    """A layer's width under the configured multiplier: at least 4."""
    return max(4, round(width * config.width_multiplier))


class Encoder(nn.Module):
    """Seven 3x3 convolutions with batch normalisation, and the shared dense layer.

    Attributes:
      config: the width multiplier, dropout rate and arithmetic precision.
      axis_name: the mapped axis over which batch statistics are shared in training; None on a single device.
    """

    config: ModelConfig
    axis_name: str | None = None

    @nn.compact
    def __call__(self, chunks: Float[Array, "n time mel"], *, train: bool = False) -> Float[Array, "n width"]:
        """The shared layer's output, after ReLU and, in training, dropout."""
        dtype = jnp.dtype(self.config.compute_dtype)
        x = chunks[..., None].astype(dtype)
        for i, (width, stride) in enumerate(zip(CONVOLUTION_WIDTHS, CONVOLUTION_STRIDES, strict=True)):
            x = nn.Conv(
                scaled_width(width, self.config),
                kernel_size=(3, 3),
                strides=(stride, stride),
                padding=((1, 1), (1, 1)),
                use_bias=False,  # batch normalisation would cancel it
                kernel_init=convolution_init,
                dtype=dtype,
                name=f"convolution_{i}",
            )(x)
            x = nn.BatchNorm(
                use_running_average=not train, momentum=0.9, epsilon=1e-5, axis_name=self.axis_name, name=f"norm_{i}"
            )(x)
            x = nn.relu(x)
        x = x.reshape(x.shape[0], -1)
        x = nn.relu(
            nn.Dense(scaled_width(DENSE_WIDTH, self.config), kernel_init=dense_init, dtype=dtype, name="shared")(x)
        )
        x = x.astype(jnp.float32)
        return nn.Dropout(self.config.dropout_rate, deterministic=not train)(x)
