"""How long programs take to compile, and the least time that their memory traffic takes on an accelerator."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental.compilation_cache import compilation_cache

from emocluster_jax.config import FeatureConfig, ModelConfig
from emocluster_jax.models.encoder import CONVOLUTION_STRIDES, CONVOLUTION_WIDTHS, scaled_width

# Several times an accelerator's cache, but too little to affect its peak memory.
_COPY_BYTES = 2**28
_COPIES = 100


def seconds_of(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def compile_times(first_call: Callable[[], object]) -> tuple[float, float]:
    """Seconds of the first call of programs with an empty persistent cache, and with one that holds them.

    `first_call` calls the programs, with as little work for them as possible.
    """
    before: Any = jax.config.values["jax_compilation_cache_dir"]
    threshold: Any = jax.config.values["jax_persistent_cache_min_compile_time_secs"]
    with tempfile.TemporaryDirectory() as folder:
        _use_cache(folder)
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)  # as `runtime.programs.keep_programs`
        try:
            cold = seconds_of(first_call)
            jax.clear_caches()
            return cold, seconds_of(first_call)
        finally:
            _use_cache(before)
            jax.config.update("jax_persistent_cache_min_compile_time_secs", threshold)


def _use_cache(folder: str | None) -> None:
    jax.config.update("jax_compilation_cache_dir", folder)
    compilation_cache.reset_cache()  # JAX looks the folder up only once


def floor_seconds(traffic_bytes: float) -> float | None:
    """The time of this traffic at the measured speed of a plain copy, spread over all devices.

    None on a CPU, where arithmetic is the limit. Traffic is that of every array that leaves its layer: written once,
    and read once wherever it is needed; weights, moments and optimiser states are too small to count.
    """
    if jax.default_backend() == "cpu":
        return None
    copy = jax.jit(lambda x: x + 1, donate_argnums=0)
    x = copy(jnp.zeros(_COPY_BYTES // 4)).block_until_ready()
    started = time.perf_counter()
    for _ in range(_COPIES):
        x = copy(x)
    x.block_until_ready()
    bytes_per_second = 2 * _COPY_BYTES * _COPIES / (time.perf_counter() - started)
    return traffic_bytes / bytes_per_second / jax.device_count()


def model_config(arithmetic: str, width_multiplier: float, **settings: Any) -> ModelConfig:
    """A network whose `arithmetic` is a `compute_dtype`, with ", fused" after it for `convolutions=fused`."""
    compute_dtype: Any = arithmetic.removesuffix(", fused")
    convolutions = "library" if compute_dtype == arithmetic else "fused"
    return ModelConfig(
        compute_dtype=compute_dtype, convolutions=convolutions, width_multiplier=width_multiplier, **settings
    )


def forward_bytes(config: ModelConfig, chunks: int) -> float:
    """In evaluation mode: the float16 input is read, each layer's output is written, and read by the next layer."""
    pixels, *outputs = _layer_sizes(config)
    return chunks * (2 * pixels + 2 * jnp.dtype(config.compute_dtype).itemsize * sum(outputs))


def training_bytes(config: ModelConfig, chunks: int) -> float:
    """In a training step: forward as above; backward reads each layer's input, output and the output's gradient, and
    writes the input's gradient (which the first layer does not have)."""
    pixels, *outputs = _layer_sizes(config)
    backward = 2 * sum(outputs) + 2 * sum(outputs[:-1]) + pixels
    return forward_bytes(config, chunks) + chunks * jnp.dtype(config.compute_dtype).itemsize * backward


def _layer_sizes(config: ModelConfig) -> list[int]:
    """How many numbers a chunk has, and how many each convolution outputs for it."""
    features = FeatureConfig()
    height, width = features.chunk_frames, features.mel_bands
    sizes = [height * width]
    for channels, stride in zip(CONVOLUTION_WIDTHS, CONVOLUTION_STRIDES, strict=True):
        height, width = -(-height // stride), -(-width // stride)
        sizes.append(height * width * scaled_width(channels, config))
    return sizes
