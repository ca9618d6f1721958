"""The network as it runs on a device against the same layers written plainly: outputs and gradients."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from emocluster_jax.benchmark.cases import Case, Device, Prepared, ours
from emocluster_jax.config import FeatureConfig, ModelConfig
from emocluster_jax.feed.split import AUDIO
from emocluster_jax.inference.forward import network_outputs
from emocluster_jax.models.encoder import CONVOLUTION_STRIDES, DENSE_WIDTH, NORM_EPSILON, scaled_width
from emocluster_jax.models.network import Output
from emocluster_jax.models.registry import network_of, variables_of

TOLERANCE = {"float32": 1e-5, "bfloat16": 2e-2}
"""Of the norm of the difference, relative to the norm: float32 sums in another order, and operands of 8 bits."""


def parity_cases(device: Device, quick: bool) -> list[Case]:
    """One pass in evaluation mode, and one in training with its gradients, in each type."""
    work = {"recordings": 1 if quick else 8, "width_multiplier": 0.125 if quick else 1.0}
    cases = {"evaluation mode": evaluation, "training": training}
    return [
        Case("parity", f"{name}, {dtype}", ours(function, {**work, "compute_dtype": dtype}), once=True)
        for name, function in cases.items()
        for dtype in TOLERANCE
    ]


def evaluation(recordings: int, compute_dtype: Any, width_multiplier: float) -> Prepared:
    """Figures: the relative norm of the difference of the attributes and the embeddings."""
    config, variables, chunks = _drawn(recordings, compute_dtype, width_multiplier)
    run = jax.jit(lambda variables, audio: network_outputs(config, variables, {AUDIO: audio}, fast=True))
    plain = jax.jit(lambda variables, chunks: _plain(variables, chunks, train=False))

    def repeat() -> dict[str, float]:
        with _precision(compute_dtype):
            found: Output = run(variables, chunks[None])
        with jax.default_matmul_precision("highest"):
            attributes, embeddings = plain(variables, chunks)
        differences = {"attributes": (found.attributes, attributes), "embeddings": (found.embeddings, embeddings)}
        return _within(differences, compute_dtype)

    return Prepared(repeat)


def training(recordings: int, compute_dtype: Any, width_multiplier: float) -> Prepared:
    """Figures: likewise, and of the gradients of a random projection of both; in bfloat16 these are not judged.

    Rounding to 8 bits changes signs before ReLU, and with them gradients altogether.
    """
    config, variables, chunks = _drawn(recordings, compute_dtype, width_multiplier)
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
        with _precision(compute_dtype):
            (_, found), gradients = run(variables["params"], chunks.reshape(-1, 1, *chunks.shape[1:]))
        with jax.default_matmul_precision("highest"):
            (_, expected), others = plain(variables["params"], chunks)
        names = "attributes", "embeddings"
        figures = _within(dict(zip(names, zip(found, expected, strict=True), strict=True)), compute_dtype)
        largest = max(jax.tree.leaves(jax.tree.map(_difference, gradients, others)))
        if compute_dtype == "float32":
            _check("gradients", largest, compute_dtype)
        return {**figures, "gradients": largest}

    return Prepared(repeat)


def _drawn(recordings: int, compute_dtype: Any, width_multiplier: float) -> tuple[ModelConfig, Any, Array]:
    """Settings without dropout, variables whose norms do something, and normalised chunks."""
    config = ModelConfig(compute_dtype=compute_dtype, width_multiplier=width_multiplier, dropout_rate=0.0)
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


def _plain(variables: Any, chunks: Float[Array, "n time mel"], *, train: bool) -> tuple[Array, Array]:
    """Attributes and embeddings by XLA's convolutions and batch normalisation as it is written."""
    params, statistics = variables["params"], variables["batch_stats"]
    x = chunks[..., None]
    for i, stride in enumerate(CONVOLUTION_STRIDES):
        layout = ("NHWC", "HWIO", "NHWC")
        kernel, norm = params["encoder"][f"convolution_{i}"]["kernel"], params["encoder"][f"norm_{i}"]
        x = lax.conv_general_dilated(x, kernel, (stride, stride), ((1, 1), (1, 1)), dimension_numbers=layout)
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


def _precision(compute_dtype: str) -> Any:
    """What is compared: in float32 the sums, not how a GPU rounds operands of products when nothing is said."""
    return jax.default_matmul_precision("highest" if compute_dtype == "float32" else None)


def _within(differences: dict[str, tuple[Array, Array]], compute_dtype: str) -> dict[str, float]:
    """The relative norms; AssertionError if one is too large."""
    found = {name: _difference(*pair) for name, pair in differences.items()}
    for name, difference in found.items():
        _check(name, difference, compute_dtype)
    return found


def _check(name: str, difference: float, compute_dtype: str) -> None:
    if not difference <= TOLERANCE[compute_dtype]:
        raise AssertionError(
            f"{name} differ by {difference:.3g} of their norm, allowed are {TOLERANCE[compute_dtype]:g}"
        )


def _difference(one: Array, other: Array) -> float:
    a, b = np.asarray(one, np.float64), np.asarray(other, np.float64)
    apart = float(np.linalg.norm(a - b))
    return apart / float(np.linalg.norm(b)) if apart else 0.0  # gradients of what is not read are zeros
