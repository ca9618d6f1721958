"""The VGG-style convolutional encoder that every system of this project shares (paper, figure 2)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from emocluster_jax.config import ModelConfig
from emocluster_jax.models.convolution import conv3x3, folded_conv3x3, relu_conv3x3

CONVOLUTION_WIDTHS = (32, 32, 64, 64, 128, 128, 128)
CONVOLUTION_STRIDES = (1, 1, 2, 2, 2, 2, 2)
DENSE_WIDTH = 256
NORM_MOMENTUM = 0.9
NORM_EPSILON = 1e-5


def convolution_init(key: jax.Array, shape: Sequence[int], dtype: Any = jnp.float32) -> Array:
    """N(0, 2 / (height width out)): He's initialisation for the fan-out of a convolution (He et al. 2015)."""
    height, width, _, outputs = shape
    return jax.random.normal(key, shape, dtype) * jnp.sqrt(2.0 / (height * width * outputs)).astype(dtype)


dense_init = nn.initializers.normal(stddev=0.01)
"""N(0, 0.01²) for every dense layer; biases start at zero."""


def scaled_width(width: int, config: ModelConfig) -> int:
    """A layer's width times the configured multiplier, at least 4."""
    return max(4, round(width * config.width_multiplier))


def layer_shapes(frames: int, mel_bands: int, config: ModelConfig) -> tuple[tuple[int, int, int], ...]:
    """Height, width and channels of the encoder's input and of its seven convolutions' outputs."""
    shapes = [(frames, mel_bands, 1)]
    for width, stride in zip(CONVOLUTION_WIDTHS, CONVOLUTION_STRIDES, strict=True):
        height, length, _ = shapes[-1]
        shapes.append((-(-height // stride), -(-length // stride), scaled_width(width, config)))
    return tuple(shapes)


def inverse_deviation(mean: Float[Array, " c"], mean_square: Float[Array, " c"]) -> Float[Array, " c"]:
    """1 / √(variance + ε), from moments."""
    return lax.rsqrt(jnp.maximum(mean_square - mean**2, 0.0) + NORM_EPSILON)


class Normalization(NamedTuple):
    """Batch normalisation of each channel: scale · (x - mean) · inverse_deviation + bias."""

    mean: Float[Array, " channels"]
    inverse_deviation: Float[Array, " channels"]
    scale: Float[Array, " channels"]
    bias: Float[Array, " channels"]

    @property
    def multiplier(self) -> Float[Array, " channels"]:
        return self.scale * self.inverse_deviation

    @property
    def offset(self) -> Float[Array, " channels"]:
        return self.bias - self.mean * self.multiplier


class BatchNormalization(nn.Module):
    """Batch normalisation (Ioffe & Szegedy 2015) as numbers that a convolution before or after it applies.

    With an `axis_name`, batch statistics are shared over that mapped axis.
    """

    channels: int
    axis_name: str | None

    def setup(self) -> None:
        shape = (self.channels,)
        self.scale = self.param("scale", nn.initializers.ones, shape)
        self.bias = self.param("bias", nn.initializers.zeros, shape)
        self.running_mean = self.variable("batch_stats", "mean", jnp.zeros, shape)
        self.running_variance = self.variable("batch_stats", "var", jnp.ones, shape)

    def running(self) -> Normalization:
        """Normalises by the running moments, as in evaluation mode."""
        inverse = lax.rsqrt(self.running_variance.value + NORM_EPSILON)
        return Normalization(self.running_mean.value, inverse, self.scale, self.bias)

    def of_batch(
        self, mean: Float[Array, " channels"], mean_square: Float[Array, " channels"], *, remember: bool = True
    ) -> Normalization:
        """Normalises by these moments of this device's batch, which the running ones remember unless told otherwise."""
        if self.axis_name is not None:
            mean, mean_square = lax.pmean((mean, mean_square), self.axis_name)
        if remember and not self.is_initializing():
            variance = jnp.maximum(mean_square - mean**2, 0.0)
            self.running_mean.value = NORM_MOMENTUM * self.running_mean.value + (1 - NORM_MOMENTUM) * mean
            self.running_variance.value = NORM_MOMENTUM * self.running_variance.value + (1 - NORM_MOMENTUM) * variance
        return Normalization(mean, inverse_deviation(mean, mean_square), self.scale, self.bias)


class ConvolutionKernel(nn.Module):
    """The kernel of a 3x3 convolution; without a bias, which batch normalisation would cancel."""

    inputs: int
    outputs: int

    @nn.compact
    def __call__(self) -> Float[Array, "3 3 inputs outputs"]:
        return self.param("kernel", convolution_init, (3, 3, self.inputs, self.outputs))


class Level(NamedTuple):
    """A convolution's output and the normalisation that follows it, which the next convolution applies."""

    values: Float[Array, "n h w c"]
    normalization: Normalization

    @property
    def normalized(self) -> Float[Array, "n h w c"]:
        """The values with mean 0 and variance 1 over the batch, before scale and bias, float32."""
        return (self.values.astype(jnp.float32) - self.normalization.mean) * self.normalization.inverse_deviation

    @property
    def activation(self) -> Float[Array, "n h w c"]:
        """What the next layer reads: normalised, scaled and rectified."""
        affine = self.values * self.normalization.multiplier + self.normalization.offset
        return nn.relu(affine).astype(self.values.dtype)


class Encoder(nn.Module):
    """Seven 3x3 convolutions with batch normalisation and ReLU, and the shared dense layer.

    Batch statistics are shared over the mapped axis `axis_name` in training; None on a single device. Layers that
    `train_layers` (`config.OptimizerConfig`) leaves out have no gradient, and convolutions of these are normalised by
    the running statistics, which stay as they are.
    """

    config: ModelConfig
    axis_name: str | None = None
    train_layers: str = "all"

    def setup(self) -> None:
        widths = [scaled_width(width, self.config) for width in CONVOLUTION_WIDTHS]
        self.convolution = [ConvolutionKernel(*channels) for channels in pairwise([1, *widths])]
        self.norm = [BatchNormalization(width, self.axis_name) for width in widths]
        self.shared = nn.Dense(scaled_width(DENSE_WIDTH, self.config), kernel_init=dense_init, dtype=self._dtype)
        # The name determines the dropout's random keys: changing it would change the results of every seed.
        self.dropout = nn.Dropout(self.config.dropout_rate, name="Dropout_0")

    def __call__(self, chunks: Float[Array, "n time mel"], *, train: bool = False) -> Float[Array, "n width"]:
        """The shared layer's output, after ReLU and, in training, dropout."""
        return self.activate(self.embed(chunks, train=train), train=train)

    def activate(self, shared: Float[Array, "n width"], *, train: bool) -> Float[Array, "n width"]:
        """ReLU and, in training, dropout of what the shared layer puts out."""
        return self.dropout(nn.relu(shared), deterministic=not train)

    def embed(self, chunks: Float[Array, "n time mel"], *, train: bool) -> Float[Array, "n width"]:
        """The shared layer's output before its ReLU."""
        if train and self.train_layers == "all":
            return self.dense(self.convolve(chunks)[-1].activation)
        return self.dense(self._by_running_statistics(chunks))

    def convolve(
        self, chunks: Float[Array, "n time mel"], *, noise_std: float | Float[Array, ""] | None = None
    ) -> tuple[Level, ...]:
        """The seven convolutions in training; they are normalised by the batch's statistics, unless they are frozen.

        Gaussian noise of the standard deviation `noise_std` is added to every normalised output. It needs a "noise" key
        and leaves the running statistics as they are.
        """
        levels: list[Level] = []
        fused = self.config.convolutions == "fused"
        for kernel, norm, stride in zip(self.convolution, self.norm, CONVOLUTION_STRIDES, strict=True):
            weights = kernel().astype(self._dtype)
            if not levels:
                convolved = conv3x3(chunks[..., None].astype(self._dtype), weights, stride, fused=fused)
            else:
                values, normalization = levels[-1]
                multiplier, offset = normalization.multiplier, normalization.offset
                convolved = relu_conv3x3(values, multiplier, offset, weights, stride, fused=fused)
            if self.train_layers == "all":
                normalization = norm.of_batch(convolved.mean, convolved.mean_square, remember=noise_std is None)
            else:
                normalization = norm.running()
            level = Level(convolved.pre_activation, normalization)
            levels.append(level if noise_std is None else self._noisy(level, noise_std))
        return tuple(levels)

    def dense(self, activations: Float[Array, "n h w c"]) -> Float[Array, "n width"]:
        """The shared layer before its ReLU, of the last convolution's activations, float32."""
        flat = activations.reshape(activations.shape[0], -1)
        if self.train_layers != "all":
            flat = lax.stop_gradient(flat)
        shared = self.shared(flat)
        if self.train_layers == "heads":
            shared = lax.stop_gradient(shared)
        return shared.astype(jnp.float32)

    def _by_running_statistics(self, chunks: Float[Array, "n time mel"]) -> Float[Array, "n h w c"]:
        """The last convolution's activations in evaluation mode: normalisation is a part of each kernel and a bias."""
        x = chunks[..., None].astype(self._dtype)
        for kernel, norm, stride in zip(self.convolution, self.norm, CONVOLUTION_STRIDES, strict=True):
            normalization = norm.running()
            folded = (kernel() * normalization.multiplier).astype(self._dtype)
            x = folded_conv3x3(x, folded, normalization.offset, stride)
        return x

    @property
    def _dtype(self) -> jnp.dtype:
        return jnp.dtype(self.config.compute_dtype)

    def _noisy(self, level: Level, noise_std: float | Float[Array, ""]) -> Level:
        """The level with noise added to its normalised values; scale and bias are still to be applied."""
        _, _, scale, bias = level.normalization
        values = level.normalized + noise_std * jax.random.normal(self.make_rng("noise"), level.values.shape)
        unchanged = Normalization(jnp.zeros_like(scale), jnp.ones_like(scale), scale, bias)
        return Level(values.astype(self._dtype), unchanged)
