"""The least time that a program's memory traffic takes on an accelerator.

Every array that leaves its layer is written once, and read once wherever it is needed; weights, moments and optimiser
states are too small to count. The floor is this many bytes at the measured speed of a plain copy.
"""

from __future__ import annotations

import time

import jax
import jax.numpy as jnp

from emocluster_jax.config import FeatureConfig, ModelConfig
from emocluster_jax.models.encoder import CONVOLUTION_STRIDES, CONVOLUTION_WIDTHS, scaled_width

# Several times an accelerator's cache, but too little to affect its peak memory.
_COPY_BYTES = 2**28
_COPIES = 100


def copy_bytes_per_second() -> float:
    """Bytes that a copy on the first device reads and writes per second."""
    copy = jax.jit(lambda x: x + 1, donate_argnums=0)
    x = copy(jnp.zeros(_COPY_BYTES // 4))
    x.block_until_ready()
    started = time.perf_counter()
    for _ in range(_COPIES):
        x = copy(x)
    x.block_until_ready()
    return 2 * _COPY_BYTES * _COPIES / (time.perf_counter() - started)


def floor_seconds(traffic_bytes: float) -> float | None:
    """The time of this traffic, spread over all devices; None on a CPU, where arithmetic is the limit."""
    if jax.default_backend() == "cpu":
        return None
    return traffic_bytes / copy_bytes_per_second() / jax.device_count()


def forward_bytes(config: ModelConfig, chunks: int) -> float:
    """In evaluation mode: the float16 input is read, each layer's output is written, and read by the next layer."""
    size = jnp.dtype(config.compute_dtype).itemsize
    pixels = _input_size()
    return chunks * (2 * pixels + 2 * size * sum(_layer_sizes(config)))


def training_bytes(config: ModelConfig, chunks: int) -> float:
    """In a training step: forward as above; backward reads each layer's input, output and the output's gradient, and
    writes the input's gradient (which the first layer does not have)."""
    size = jnp.dtype(config.compute_dtype).itemsize
    outputs = _layer_sizes(config)
    backward = sum(2 * y for y in outputs) + sum(2 * y for y in outputs[:-1]) + _input_size()
    return forward_bytes(config, chunks) + chunks * size * backward


def _input_size() -> int:
    features = FeatureConfig()
    return features.chunk_frames * features.mel_bands


def _layer_sizes(config: ModelConfig) -> list[int]:
    """How many numbers each convolution outputs per chunk."""
    features = FeatureConfig()
    height, width = features.chunk_frames, features.mel_bands
    sizes = []
    for channels, stride in zip(CONVOLUTION_WIDTHS, CONVOLUTION_STRIDES, strict=True):
        height, width = -(-height // stride), -(-width // stride)
        sizes.append(height * width * scaled_width(channels, config))
    return sizes
