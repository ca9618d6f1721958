"""What runs on a device against the same layers written plainly: outputs and gradients."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from emocluster_jax.benchmark.cases import Case, Device, Prepared, ours
from emocluster_jax.benchmark.programs import model_config
from emocluster_jax.config import FeatureConfig, ModelConfig
from emocluster_jax.feed.split import AUDIO
from emocluster_jax.inference.forward import network_outputs
from emocluster_jax.models.convolution import conv3x3, relu_conv3x3
from emocluster_jax.models.encoder import CONVOLUTION_STRIDES, DENSE_WIDTH, NORM_EPSILON, layer_shapes, scaled_width
from emocluster_jax.models.network import Output
from emocluster_jax.models.registry import network_of, variables_of

TOLERANCE = {"float32": 1e-5, "bfloat16": 2e-2}
"""Of the norm of the difference, relative to the norm: float32 sums in another order, and operands of 8 bits."""


def parity_cases(device: Device, quick: bool) -> list[Case]:
    """One pass in evaluation mode, one in training with its gradients, and each layer by itself, in each type."""
    work = {"recordings": 1 if quick else 8, "width_multiplier": 0.125 if quick else 1.0}
    in_training = (*TOLERANCE, *(name for name in device.arithmetic if name not in TOLERANCE))
    cases = (
        ("evaluation mode", evaluation, tuple(TOLERANCE)),
        ("training", training, in_training),
        ("layers in training", layers, in_training),
    )
    return [
        Case("parity", f"{name}, {arithmetic}", ours(function, {**work, "arithmetic": arithmetic}), once=True)
        for name, function, ways in cases
        for arithmetic in ways
    ]


def evaluation(recordings: int, arithmetic: str, width_multiplier: float) -> Prepared:
    """Figures: the relative norm of the difference of the attributes and the embeddings."""
    config, variables, chunks = _drawn(recordings, arithmetic, width_multiplier)
    run = jax.jit(lambda variables, audio: network_outputs(config, variables, {AUDIO: audio}, fast=True))
    plain = jax.jit(lambda variables, chunks: _plain(variables, chunks, train=False))

    def repeat() -> dict[str, float]:
        with _precision(arithmetic):
            found: Output = run(variables, chunks[None])
        with jax.default_matmul_precision("highest"):
            attributes, embeddings = plain(variables, chunks)
        differences = {"attributes": (found.attributes, attributes), "embeddings": (found.embeddings, embeddings)}
        return _within(differences, arithmetic)

    return Prepared(repeat)


def training(recordings: int, arithmetic: str, width_multiplier: float) -> Prepared:
    """Figures: likewise, and of the gradients of a random projection of both; in bfloat16 these are not judged.

    Rounding to 8 bits changes signs before ReLU, and with them gradients altogether.
    """
    config, variables, chunks = _drawn(recordings, arithmetic, width_multiplier)
    network = network_of(config)
    random = np.random.default_rng(1)
    widths = len(config.attributes), scaled_width(DENSE_WIDTH, config)
    directions = [jnp.asarray(random.normal(size=(len(chunks), width)), jnp.float32) for width in widths]

    def projected(outputs: tuple[Array, Array]) -> tuple[Array, tuple[Array, Array]]:
        sums = [(output.astype(jnp.float32) * way).sum() for output, way in zip(outputs, directions, strict=True)]
        return sum(sums, jnp.float32(0)), outputs

    def of_network(params: Any, audio: Array) -> tuple[Array, tuple[Array, Array]]:
        held = {"params": params, "batch_stats": variables["batch_stats"]}
        output, _ = network.apply(held, {AUDIO: audio}, train=True, mutable=["batch_stats"])
        return projected((output.attributes, output.embeddings))

    def of_plain(params: Any, chunks: Array) -> tuple[Array, tuple[Array, Array]]:
        return projected(_plain({"params": params, "batch_stats": None}, chunks, train=True))

    run = jax.jit(jax.value_and_grad(of_network, has_aux=True))
    plain = jax.jit(jax.value_and_grad(of_plain, has_aux=True))

    def repeat() -> dict[str, float]:
        with _precision(arithmetic):
            (_, found), gradients = run(variables["params"], chunks.reshape(-1, 1, *chunks.shape[1:]))
        with jax.default_matmul_precision("highest"):
            (_, expected), others = plain(variables["params"], chunks)
        names = "attributes", "embeddings"
        figures = _within(dict(zip(names, zip(found, expected, strict=True), strict=True)), arithmetic)
        largest = max(jax.tree.leaves(jax.tree.map(_difference, gradients, others)))
        if arithmetic == "float32":
            _check("gradients", largest, arithmetic)
        return {**figures, "gradients": largest}

    return Prepared(repeat)


def layers(recordings: int, arithmetic: str, width_multiplier: float) -> Prepared:
    """Figures: by convolution, the largest difference of its outputs and gradients, of equal numbers of 8 bits.

    Where these are equal, so are signs before ReLU, and gradients can be judged in bfloat16, too.
    """
    features, config = FeatureConfig(), model_config(arithmetic, width_multiplier)
    dtype, fused = jnp.dtype(config.compute_dtype), config.convolutions == "fused"
    shapes = layer_shapes(features.chunk_frames, features.mel_bands, config)
    random = np.random.default_rng(0)

    def normal(*shape: int) -> Array:
        return jnp.asarray(random.normal(size=shape), jnp.bfloat16).astype(jnp.float32)

    def ours(x: Array, multiplier: Array, offset: Array, kernel: Array, stride: int) -> tuple[Array, ...]:
        x, kernel = x.astype(dtype), kernel.astype(dtype)
        if x.shape[-1] == 1:
            return tuple(conv3x3(x, kernel, stride, fused=fused))
        return tuple(relu_conv3x3(x, multiplier, offset, kernel, stride, fused=fused))

    def plain(x: Array, multiplier: Array, offset: Array, kernel: Array, stride: int) -> tuple[Array, ...]:
        y = _convolution(x if x.shape[-1] == 1 else jax.nn.relu(x * multiplier + offset), kernel, stride)
        return y, y.mean((0, 1, 2)), jnp.square(y).mean((0, 1, 2))

    @partial(jax.jit, static_argnums=(0, 3))
    def both(layer: Any, arrays: tuple[Array, ...], cotangents: tuple[Array, ...], stride: int) -> Any:
        outputs, transpose = jax.vjp(lambda *arrays: layer(*arrays, stride), *arrays)
        return outputs, transpose(tuple(ct.astype(y.dtype) for ct, y in zip(cotangents, outputs, strict=True)))

    def difference(shape: tuple[int, ...], channels: int, stride: int) -> float:
        c_in = shape[-1]
        arrays = normal(*shape), 1 + 0.25 * normal(c_in), 0.25 * normal(c_in), normal(3, 3, c_in, channels) / 16
        y = normal(shape[0], *(-(-n // stride) for n in shape[1:3]), channels)
        # A pixel's share of the moments' cotangents must not be lost when it is added to a number of 8 bits.
        share = 0.3 * y.size / channels
        cotangents = y, share * normal(channels), share * normal(channels)
        with _precision(arithmetic):
            found = both(ours, arrays, cotangents, stride)
        with jax.default_matmul_precision("highest"):
            expected = both(plain, arrays, cotangents, stride)
        return max(jax.tree.leaves(jax.tree.map(_difference, found, expected)))

    def repeat() -> dict[str, float]:
        images = recordings * features.chunks_per_utterance
        figures = {}
        for i, stride in enumerate(CONVOLUTION_STRIDES):
            figures[f"layer {i + 1}"] = difference((images, *shapes[i]), shapes[i + 1][-1], stride)
            _check(f"layer {i + 1}'s outputs or gradients", figures[f"layer {i + 1}"], arithmetic)
        return figures

    return Prepared(repeat)


def _drawn(recordings: int, arithmetic: str, width_multiplier: float) -> tuple[ModelConfig, Any, Array]:
    """Settings without dropout, variables whose norms do something, and normalised chunks."""
    config = model_config(arithmetic, width_multiplier, dropout_rate=0.0)
    features, random = FeatureConfig(), np.random.default_rng(0)

    def drawn(path: Any, leaf: jax.ShapeDtypeStruct) -> Array:
        name = path[-1].key
        if name in ("scale", "var"):
            values = random.uniform(0.5, 1.5, leaf.shape)
        elif name in ("bias", "mean"):
            values = random.normal(0, 0.1, leaf.shape)
        else:
            values = random.normal(0, np.sqrt(2 / np.prod(leaf.shape[:-1])), leaf.shape)
        return jnp.asarray(values, jnp.float32)

    shape = recordings * features.chunks_per_utterance, features.chunk_frames, features.mel_bands
    chunks = jnp.asarray(random.normal(size=shape).clip(-features.clip, features.clip), jnp.float32)
    return config, jax.tree_util.tree_map_with_path(drawn, variables_of(config, features)), chunks


def _convolution(x: Array, kernel: Array, stride: int) -> Array:
    layout = ("NHWC", "HWIO", "NHWC")
    return lax.conv_general_dilated(x, kernel, (stride, stride), ((1, 1), (1, 1)), dimension_numbers=layout)


def _plain(variables: Any, chunks: Float[Array, "n time mel"], *, train: bool) -> tuple[Array, Array]:
    """Attributes and embeddings by XLA's convolutions and batch normalisation as it is written."""
    params, statistics = variables["params"], variables["batch_stats"]
    x = chunks[..., None]
    for i, stride in enumerate(CONVOLUTION_STRIDES):
        kernel, norm = params["encoder"][f"convolution_{i}"]["kernel"], params["encoder"][f"norm_{i}"]
        x = _convolution(x, kernel, stride)
        if train:
            mean, variance = x.mean((0, 1, 2)), x.var((0, 1, 2))
        else:
            running = statistics["encoder"][f"norm_{i}"]
            mean, variance = running["mean"], running["var"]
        x = jax.nn.relu((x - mean) * lax.rsqrt(variance + NORM_EPSILON) * norm["scale"] + norm["bias"])

    def dense(x: Array, layer: Any) -> Array:
        return x @ layer["kernel"] + layer["bias"]

    shared = jax.nn.relu(dense(x.reshape(len(x), -1), params["encoder"]["shared"]))
    regressor = params["attribute_regressor"]
    attributes = dense(jax.nn.relu(dense(shared, regressor["hidden"])), regressor["output"])
    return attributes, dense(shared, params["cluster_classifier"]["hidden"])


def _precision(arithmetic: str) -> Any:
    """What is compared: in float32 the sums, not how a GPU rounds operands of products when nothing is said."""
    return jax.default_matmul_precision("highest" if arithmetic == "float32" else None)


def _within(differences: dict[str, tuple[Array, Array]], arithmetic: str) -> dict[str, float]:
    """The relative norms; AssertionError if one is too large."""
    found = {name: _difference(*pair) for name, pair in differences.items()}
    for name, difference in found.items():
        _check(name, difference, arithmetic)
    return found


def _check(name: str, difference: float, arithmetic: str) -> None:
    allowed = TOLERANCE[arithmetic.partition(",")[0]]
    if not difference <= allowed:
        raise AssertionError(f"{name} differ by {difference:.3g} of their norm, allowed are {allowed:g}")


def _difference(one: Array, other: Array) -> float:
    a, b = np.asarray(one, np.float64), np.asarray(other, np.float64)
    apart = float(np.linalg.norm(a - b))
    return apart / float(np.linalg.norm(b)) if apart else 0.0  # gradients of what is not read are zeros
