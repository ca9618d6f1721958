"""The kernels for GPUs, interpreted, against a CPU's matrix products, and lowered for the GPUs that are not here."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import ShapeDtypeStruct

from emocluster_jax.models import convolution_on_cpu, convolution_on_gpu
from emocluster_jax.models.convolution import conv3x3, relu_conv3x3

# Both sum up in float32, in another order.
RELATIVE_NORM = 1e-6


def normal(shape: Any, seed: int) -> jax.Array:
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape, np.float32))


def assert_close(found: Any, expected: Any) -> None:
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert one.shape == other.shape and one.dtype == other.dtype
        one, other = np.asarray(one, np.float64), np.asarray(other, np.float64)
        assert np.linalg.norm(one - other) <= RELATIVE_NORM * np.linalg.norm(other)


def cotangents(shape: tuple[int, ...]) -> tuple[jax.Array, ...]:
    # Those of the moments count for as much as the output's, lest an error in them hide in the tolerance.
    return normal(shape, 5), normal(shape[-1], 6), normal(shape[-1], 7)


@pytest.mark.parametrize(
    ("shape", "channels", "stride"),
    [((2, 5, 32, 16), 32, 1), ((2, 6, 32, 16), 16, 2), ((2, 7, 64, 32), 64, 2), ((1, 1, 16, 16), 16, 1)],
)
def test_normalised_and_rectified_input(shape: tuple[int, ...], channels: int, stride: int) -> None:
    assert convolution_on_gpu.fits(shape, channels, stride)
    c_in = shape[-1]
    kernel = normal((3, 3, c_in, channels), 1)
    arrays = normal(shape, 0), 1 + 0.3 * normal(c_in, 2), 0.3 * normal(c_in, 3), kernel
    expected = convolution_on_cpu.relu_forward(*arrays, stride)
    assert_close(partial(convolution_on_gpu.relu_forward, stride=stride, interpret=True)(*arrays), expected)
    residuals = *arrays, expected[0], *cotangents(expected[0].shape)
    backward = convolution_on_cpu.relu_backward(*residuals, stride=stride)
    assert_close(convolution_on_gpu.relu_backward(*residuals, stride=stride, interpret=True), backward)


def test_bfloat16_is_rounded_where_it_is_written() -> None:
    shape, kernel = (2, 5, 32, 16), normal((3, 3, 16, 16), 1)
    arrays = normal(shape, 0).astype(jnp.bfloat16), 1 + 0.3 * normal(16, 2), 0.3 * normal(16, 3)
    found = convolution_on_gpu.relu_forward(*arrays, kernel.astype(jnp.bfloat16), 1, interpret=True)
    y, total, square = (np.asarray(x, np.float64) for x in found)
    assert found[0].dtype == jnp.bfloat16 and found[1].dtype == found[2].dtype == jnp.float32
    np.testing.assert_allclose(total, y.sum((0, 1, 2)), rtol=1e-4, atol=1e-3)  # float32 sums of 320 numbers
    np.testing.assert_allclose(square, (y * y).sum((0, 1, 2)), rtol=1e-5)
    wide = convolution_on_cpu.relu_forward(arrays[0].astype(jnp.float32), *arrays[1:], kernel, 1)[0]
    assert np.linalg.norm(y - wide) <= 2e-2 * np.linalg.norm(wide)  # bfloat16 keeps 8 bits


@pytest.mark.parametrize(("shape", "stride"), [((2, 5, 32, 1), 1), ((2, 6, 64, 1), 2)])
def test_input_of_one_channel(shape: tuple[int, ...], stride: int) -> None:
    assert convolution_on_gpu.fits(shape, 16, stride)
    arrays = normal(shape, 0), normal((3, 3, 1, 16), 1)
    expected = convolution_on_cpu.input_forward(*arrays, stride)
    assert_close(convolution_on_gpu.input_forward(*arrays, stride, interpret=True), expected)
    residuals = *arrays, expected[0], *cotangents(expected[0].shape)
    backward = convolution_on_cpu.input_backward(*residuals, stride=stride)
    assert_close(convolution_on_gpu.input_backward(*residuals, stride=stride, interpret=True), backward)


@pytest.mark.parametrize(
    ("shape", "channels", "stride", "fits"),
    [
        ((704, 62, 128, 1), 32, 1, True),
        ((704, 62, 128, 32), 32, 1, True),
        ((704, 62, 128, 32), 64, 2, True),
        ((704, 31, 64, 64), 64, 2, False),  # its kernel's gradient is more than registers hold
        ((704, 62, 128, 8), 8, 1, False),  # a quarter of the width
        ((704, 62, 88, 32), 32, 1, False),  # no power of two
        ((704, 62, 129, 32), 32, 2, False),
        ((8500, 62, 128, 32), 32, 1, False),  # more numbers than 32 bits count
    ],
)
def test_layers_that_have_kernels(shape: tuple[int, ...], channels: int, stride: int, fits: bool) -> None:
    assert convolution_on_gpu.fits(shape, channels, stride) is fits


def two_layers(x: jax.Array, first: jax.Array, second: jax.Array, *, fused: bool) -> jax.Array:
    one = conv3x3(x, first.astype(x.dtype), 1, fused=fused)
    multiplier = jax.lax.rsqrt(one.mean_square - one.mean**2 + 1e-5)
    other = relu_conv3x3(one.pre_activation, multiplier, -one.mean * multiplier, second.astype(x.dtype), 2, fused=fused)
    return other.mean_square.sum() + other.pre_activation.astype(jnp.float32).sum()


@pytest.mark.parametrize(
    ("platform", "dtype", "fused", "kernels"),
    [
        ("cuda", "bfloat16", True, 5),  # forward and the kernel's gradient of each, and the second one's input's
        ("cuda", "bfloat16", False, 0),
        ("cuda", "float32", True, 0),
        ("tpu", "bfloat16", True, 0),
        ("cpu", "bfloat16", True, 0),
    ],
)
def test_kernels_that_a_program_has(
    platform: str, dtype: str, fused: bool, kernels: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("emocluster_jax.runtime.platforms.only_cpu", lambda: platform == "cpu")
    shapes = (2, 62, 128, 1), (3, 3, 1, 32), (3, 3, 32, 64)
    x, *weights = (ShapeDtypeStruct(shape, jnp.float32) for shape in shapes)
    gradients = jax.jit(jax.grad(partial(two_layers, fused=fused), argnums=(1, 2)))
    traced = gradients.trace(ShapeDtypeStruct(x.shape, jnp.dtype(dtype)), *weights)
    text = traced.lower(lowering_platforms=(platform,)).as_text()
    assert text.count("xla.gpu.triton") == kernels
    assert ("stablehlo.convolution" in text) is (kernels == 0 and (platform, dtype) != ("cpu", "float32"))
