"""The VGG-style convolutional encoder that every system of this project shares (paper, figure 2)."""

from __future__ import annotations

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from emocluster_jax.config import ModelConfig
from emocluster_jax.models.convolution import Convolved, conv3x3, relu_conv3x3

CONVOLUTION_WIDTHS = (32, 32, 64, 64, 128, 128, 128)
CONVOLUTION_STRIDES = (1, 1, 2, 2, 2, 2, 2)
DENSE_WIDTH = 256
NORM_MOMENTUM = 0.9
NORM_EPSILON = 1e-5


def convolution_init(key: jax.Array, shape: Sequence[int], dtype: jnp.dtype = jnp.float32) -> Array:
    """N(0, 2 / (9 out)): He's initialisation for the fan-out of a 3x3 convolution (He et al. 2015)."""
    return jax.random.normal(key, shape, dtype) * jnp.sqrt(2.0 / (9 * shape[-1])).astype(dtype)


dense_init = nn.initializers.normal(stddev=0.01)
"""N(0, 0.01 squared), for every dense layer; biases start at zero."""


def scaled_width(width: int, config: ModelConfig) -> int:
    """A layer's width under the configured multiplier: at least 4."""
    return max(4, round(width * config.width_multiplier))


class BatchNormalization(nn.Module):
    """Batch normalisation (Ioffe & Szegedy 2015) as one multiplication and addition a channel.

    Attributes:
      axis_name: the mapped axis over which batch statistics are shared; None on a single device.
    """

    axis_name: str | None

    @nn.compact
    def __call__(
        self, mean: Float[Array, " channels"], mean_square: Float[Array, " channels"], *, train: bool
    ) -> tuple[Float[Array, " channels"], Float[Array, " channels"]]:
        """The multiplier and the offset; in training they follow the moments given, and the running ones are updated.

        Args:
          mean: over this device's batch, height and width.
          mean_square: likewise, of the squares.
          train: whether to normalise by the batch's statistics or by the running ones.
        """
        channels = mean.shape
        scale = self.param("scale", nn.initializers.ones, channels)
        bias = self.param("bias", nn.initializers.zeros, channels)
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, channels)
        running_variance = self.variable("batch_stats", "var", jnp.ones, channels)
        if train:
            if self.axis_name is not None:
                mean, mean_square = lax.pmean((mean, mean_square), self.axis_name)
            variance = jnp.maximum(mean_square - mean**2, 0.0)
            running_mean.value = NORM_MOMENTUM * running_mean.value + (1 - NORM_MOMENTUM) * mean
            running_variance.value = NORM_MOMENTUM * running_variance.value + (1 - NORM_MOMENTUM) * variance
        else:
            mean, variance = running_mean.value, running_variance.value
        multiplier = scale * lax.rsqrt(variance + NORM_EPSILON)
        return multiplier, bias - mean * multiplier


class ConvolutionKernel(nn.Module):
    """The kernel of a 3x3 convolution; without a bias, which batch normalisation would cancel."""

    inputs: int
    outputs: int

    @nn.compact
    def __call__(self) -> Float[Array, "3 3 inputs outputs"]:
        return self.param("kernel", convolution_init, (3, 3, self.inputs, self.outputs))


class Encoder(nn.Module):
    """Seven 3x3 convolutions with batch normalisation and ReLU, and the shared dense layer.

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
        widths = [scaled_width(width, self.config) for width in CONVOLUTION_WIDTHS]

        def kernel(i: int, inputs: int) -> Float[Array, "3 3 inputs outputs"]:
            return ConvolutionKernel(inputs, widths[i], name=f"convolution_{i}")().astype(dtype)

        def normalization(i: int, convolved: Convolved) -> tuple[Float[Array, " c"], Float[Array, " c"]]:
            normalize = BatchNormalization(self.axis_name, name=f"norm_{i}")
            return normalize(convolved.mean, convolved.mean_square, train=train)

        # A layer is cut before its normalisation, which the next layer's convolution takes in: see `convolution`.
        convolved = conv3x3(chunks[..., None].astype(dtype), kernel(0, 1), CONVOLUTION_STRIDES[0])
        multiplier, offset = normalization(0, convolved)
        for i in range(1, len(widths)):
            x = convolved.pre_activation
            convolved = relu_conv3x3(x, multiplier, offset, kernel(i, widths[i - 1]), CONVOLUTION_STRIDES[i])
            multiplier, offset = normalization(i, convolved)
        x = convolved.pre_activation
        x = nn.relu(x * multiplier + offset).astype(dtype)
        dense = nn.Dense(scaled_width(DENSE_WIDTH, self.config), kernel_init=dense_init, dtype=dtype, name="shared")
        x = nn.relu(dense(x.reshape(x.shape[0], -1))).astype(jnp.float32)
        return nn.Dropout(self.config.dropout_rate, deterministic=not train)(x)
