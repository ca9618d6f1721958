"""The encoder in evaluation mode against convolution, batch normalisation and ReLU, one after the other."""

from __future__ import annotations

import dataclasses
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jaxtyping import Array, Float

from emocluster_jax.config import ModelConfig
from emocluster_jax.models.encoder import CONVOLUTION_STRIDES, NORM_EPSILON, Encoder

CONFIG = ModelConfig(width_multiplier=0.25)


def chunks() -> Float[Array, "n time mel"]:
    return jnp.asarray(np.random.default_rng(0).standard_normal((5, 62, 128), np.float32))


@pytest.fixture(scope="module")
def variables() -> Any:
    """Fresh weights with running statistics, scales and biases that are not 0 and 1."""
    rng = np.random.default_rng(1)
    drawn = jax.jit(Encoder(CONFIG).init)(jax.random.key(0, impl="rbg"), chunks())

    def changed(path: tuple[Any, ...], leaf: Array) -> Array:
        name = path[-1].key
        if name in ("scale", "var"):
            return jnp.asarray(rng.uniform(0.5, 1.5, leaf.shape), jnp.float32)
        return leaf if name == "kernel" else jnp.asarray(rng.normal(scale=0.2, size=leaf.shape), jnp.float32)

    return jax.tree_util.tree_map_with_path(changed, drawn)


def plain(variables: Any, x: Float[Array, "n time mel"]) -> Float[Array, "n width"]:
    params, statistics, x = variables["params"], variables["batch_stats"], x[..., None]
    normalise = nn.BatchNorm(use_running_average=True, epsilon=NORM_EPSILON)
    for i, stride in enumerate(CONVOLUTION_STRIDES):
        kernel, norm = params[f"convolution_{i}"]["kernel"], f"norm_{i}"
        dimensions = ("NHWC", "HWIO", "NHWC")
        x = lax.conv_general_dilated(x, kernel, (stride, stride), ((1, 1), (1, 1)), dimension_numbers=dimensions)
        x = nn.relu(normalise.apply({"params": params[norm], "batch_stats": statistics[norm]}, x))
    return nn.relu(x.reshape(len(x), -1) @ params["shared"]["kernel"] + params["shared"]["bias"])


def difference(actual: Any, expected: Any) -> float:
    """The largest relative norm of a difference between two trees' arrays."""
    pairs = zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True)
    return max(float(jnp.linalg.norm(a - e) / jnp.linalg.norm(e)) for a, e in pairs)


def test_evaluation_mode_equals_plain_layers_forward_and_backward(variables: Any) -> None:
    def square(outputs: Any) -> Any:
        return lambda *args: (outputs(*args) ** 2).sum()

    folded = jax.jit(lambda *args: jax.value_and_grad(square(Encoder(CONFIG).apply), argnums=(0, 1))(*args))
    unfolded = jax.jit(lambda *args: jax.value_and_grad(square(plain), argnums=(0, 1))(*args))
    # float32 on both sides, of which seven layers round in another order.
    assert difference(folded(variables, chunks()), unfolded(variables, chunks())) < 1e-5


def test_evaluation_mode_in_bfloat16_is_near_plain_float32_layers(variables: Any) -> None:
    encoder = Encoder(dataclasses.replace(CONFIG, compute_dtype="bfloat16"))
    # Seven layers of numbers of 8 bits.
    assert difference(jax.jit(encoder.apply)(variables, chunks()), jax.jit(plain)(variables, chunks())) < 2e-2


def test_initialisation_leaves_the_running_statistics_at_mean_0_and_variance_1() -> None:
    drawn = jax.eval_shape(Encoder(CONFIG).init, jax.random.key(0, impl="rbg"), chunks())
    assert set(drawn["batch_stats"]) == {f"norm_{i}" for i in range(len(CONVOLUTION_STRIDES))}
    statistics = jax.jit(Encoder(CONFIG).init)(jax.random.key(0, impl="rbg"), chunks())["batch_stats"]
    for norm in statistics.values():
        np.testing.assert_array_equal(norm["mean"], 0)
        np.testing.assert_array_equal(norm["var"], 1)
