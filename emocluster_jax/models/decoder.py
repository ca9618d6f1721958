"""The mirror image of the encoder: from a code back to a chunk."""

from __future__ import annotations

import math

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from emocluster_jax.config import ModelConfig
from emocluster_jax.models.convolution import transposed_conv3x3
from emocluster_jax.models.encoder import (
    CONVOLUTION_STRIDES,
    BatchNormalization,
    ConvolutionKernel,
    Level,
    dense_init,
    layer_shapes,
)


class Decoder(nn.Module):
    """A dense layer and seven transposed 3x3 convolutions, which undo the encoder's convolutions in reverse order.

    A published chunk passes through (2, 4, 128), (4, 8, 128), (8, 16, 128), (16, 32, 64), (31, 64, 64), (62, 128, 32),
    (62, 128, 32) and (62, 128, 1). Batch normalisation and ReLU come before each convolution. With an `axis_name`,
    batch statistics are shared over that mapped axis.
    """

    config: ModelConfig
    axis_name: str | None = None

    @nn.compact
    def __call__(
        self, code: Float[Array, "n width"], frames: int, mel_bands: int, *, train: bool = False
    ) -> Float[Array, "n {frames} {mel_bands}"]:
        """Reconstructed chunks, float32."""
        dtype = jnp.dtype(self.config.compute_dtype)
        shapes = layer_shapes(frames, mel_bands, self.config)
        dense = nn.Dense(math.prod(shapes[-1]), kernel_init=dense_init, dtype=dtype, name="dense")
        values = dense(code).reshape(-1, *shapes[-1])
        wide = values.astype(jnp.float32)
        mean, mean_square = wide.mean((0, 1, 2)), (wide * wide).mean((0, 1, 2))
        for i in reversed(range(len(CONVOLUTION_STRIDES))):
            height, width, outputs = shapes[i]
            norm = BatchNormalization(shapes[i + 1][2], self.axis_name, name=f"norm_{i}")
            normalization = norm.of_batch(mean, mean_square) if train else norm.running()
            kernel = ConvolutionKernel(outputs, shapes[i + 1][2], name=f"convolution_{i}")().astype(dtype)
            activation = Level(values, normalization).activation
            values, mean, mean_square = transposed_conv3x3(activation, kernel, CONVOLUTION_STRIDES[i], (height, width))
        return values[..., 0].astype(jnp.float32) + self.param("bias", nn.initializers.zeros, ())
