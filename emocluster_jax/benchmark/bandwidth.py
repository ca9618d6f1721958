"""The least time that a program's memory traffic takes on an accelerator.

What is counted: every array that does not stay within one layer is written once where it arises and read once wherever
it is needed; weights, moments and optimiser states are too small to matter. The floor is that many bytes at the speed
of a plain copy, measured beforehand.
"""

from __future__ import annotations

import time

import jax
import jax.numpy as jnp

from emocluster_jax.config import FeatureConfig, ModelConfig
from emocluster_jax.models.encoder import CONVOLUTION_STRIDES, CONVOLUTION_WIDTHS, scaled_width

# Several times an accelerator's cache, and too little to show in its peak memory.
_COPY_BYTES = 2**28
_COPIES = 100


def copy_bytes_per_second() -> float:
    """Bytes read and written a second by a copy on the first device."""
    copy = jax.jit(lambda x: x + 1, donate_argnums=0)
    x = copy(jnp.zeros(_COPY_BYTES // 4))
    x.block_until_ready()
    started = time.perf_counter()
    for _ in range(_COPIES):
        x = copy(x)
    x.block_until_ready()
    return 2 * _COPY_BYTES * _COPIES / (time.perf_counter() - started)


def floor_seconds(traffic_bytes: float) -> float | None:
    """The time of that traffic over all devices; None on a CPU, where arithmetic is the limit."""
    if jax.default_backend() == "cpu":
        return None
    return traffic_bytes / copy_bytes_per_second() / jax.device_count()


def forward_bytes(config: ModelConfig, chunks: int) -> float:
    """Evaluation mode: the float16 input is read, each layer's output written, and read by the next layer."""
    size = jnp.dtype(config.compute_dtype).itemsize
    pixels = _input_size()
    return chunks * (2 * pixels + 2 * size * sum(_layer_sizes(config)))


def training_bytes(config: ModelConfig, chunks: int) -> float:
    """A training step: forward as above; backward reads what each layer read and wrote, and its output's gradient,
    and writes its input's gradient (the first layer's input has none)."""
    size = jnp.dtype(config.compute_dtype).itemsize
    outputs = _layer_sizes(config)
    backward = sum(2 * y for y in outputs) + sum(2 * y for y in outputs[:-1]) + _input_size()
    return forward_bytes(config, chunks) + chunks * size * backward


def _input_size() -> int:
    features = FeatureConfig()
    return features.chunk_frames * features.mel_bands


def _layer_sizes(config: ModelConfig) -> list[int]:
    """Numbers that each convolution puts out for a chunk."""
    features = FeatureConfig()
    height, width = features.chunk_frames, features.mel_bands
    sizes = []
    for channels, stride in zip(CONVOLUTION_WIDTHS, CONVOLUTION_STRIDES, strict=True):
        height, width = -(-height // stride), -(-width // stride)
        sizes.append(height * width * scaled_width(channels, config))
    return sizes
