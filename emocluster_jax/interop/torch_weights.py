"""The published PyTorch network's arrays as variables of `models.emocluster.EmoCluster`, with NumPy only.

Besides the names, three things differ. Convolution kernels are (out, in, height, width) there and (height, width, in,
out) here, dense kernels (out, in) and (in, out). The encoder's output is flattened from (channel, time, mel) there and
from (time, mel, channel) here. And convolutions have biases there, which are subtracted from the running means here:
(x + b) - mean = x - (mean - b).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Shaped

from emocluster_jax.errors import InputError
from emocluster_jax.models.encoder import CONVOLUTION_WIDTHS, DENSE_WIDTH

ENCODER_OUTPUT = (CONVOLUTION_WIDTHS[-1], 2, 4)
"""Channels, time and mel of the encoder's last activation, for chunks of 62 frames and 128 bands."""

Path = tuple[str, ...]
Array = np.ndarray


class _Place(NamedTuple):
    path: Path
    shape: tuple[int | None, ...]
    """The published array's shape; None stands for the number of clusters or attributes."""
    convert: Callable[[Array], Array] = np.asarray


def _convolution_kernel(array: Array) -> Array:
    return array.transpose(2, 3, 1, 0)


def _shared_kernel(array: Array) -> Array:
    by_place = array.T.reshape(*ENCODER_OUTPUT, -1)
    return by_place.transpose(1, 2, 0, 3).reshape(-1, by_place.shape[-1])


def _places() -> dict[str, _Place]:
    """Every array of the published network that this one has, by its published name."""
    places = {}
    in_width = 1
    for i, width in enumerate(CONVOLUTION_WIDTHS):
        # Convolution, batch normalisation and ReLU are numbered one after another in `cnn_features`.
        kernel_path = ("params", "encoder", f"convolution_{i}", "kernel")
        places[f"cnn_features.{3 * i}.weight"] = _Place(kernel_path, (width, in_width, 3, 3), _convolution_kernel)
        for collection, theirs, ours in (
            ("params", "weight", "scale"),
            ("params", "bias", "bias"),
            ("batch_stats", "running_mean", "mean"),
            ("batch_stats", "running_var", "var"),
        ):
            norm_path = (collection, "encoder", f"norm_{i}", ours)
            places[f"cnn_features.{3 * i + 1}.{theirs}"] = _Place(norm_path, (width,))
        in_width = width
    for layer, path, outputs, inputs, kernel in (
        ("cnn_out.0", ("encoder", "shared"), DENSE_WIDTH, math.prod(ENCODER_OUTPUT), _shared_kernel),
        ("classifier.0", ("cluster_classifier", "hidden"), DENSE_WIDTH, DENSE_WIDTH, np.transpose),
        ("top_layer_class", ("cluster_classifier", "output"), None, DENSE_WIDTH, np.transpose),
        ("emo_regressor.0", ("attribute_regressor", "hidden"), DENSE_WIDTH, DENSE_WIDTH, np.transpose),
        ("top_layer_attri", ("attribute_regressor", "output"), None, DENSE_WIDTH, np.transpose),
    ):
        places[f"{layer}.weight"] = _Place(("params", *path, "kernel"), (outputs, inputs), kernel)
        places[f"{layer}.bias"] = _Place(("params", *path, "bias"), (outputs,))
    return places


_PLACES = _places()
_SUBTRACTED_FROM = {
    f"cnn_features.{3 * i}.bias": f"cnn_features.{3 * i + 1}.running_mean" for i in range(len(CONVOLUTION_WIDTHS))
}
"""The running mean that each convolution's bias is subtracted from."""


def variables_from_torch(state_dict: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Flax variables of the published network.

    Args:
      state_dict: the published arrays by name; the `.module` parts that data parallelism left in names are ignored.

    Returns:
      {"params": ..., "batch_stats": ...} of `EmoCluster`, nested dictionaries of float32 arrays. The number of clusters
      and attributes is that of the published output layers.

    Raises:
      InputError: arrays are missing, unknown, of another shape, not of floating point, or not finite.
    """
    arrays: dict[str, Array] = {}
    for name, array in state_dict.items():
        plain = _without_module(name)
        if plain in arrays:
            raise InputError(f"the weights hold {plain} twice; give a checkpoint of one network")
        if not plain.endswith(".num_batches_tracked"):
            arrays[plain] = np.asarray(array)
    expected = _PLACES.keys() | _SUBTRACTED_FROM.keys()
    _refuse("lack", expected - arrays.keys())
    _refuse("hold what the published network does not have:", arrays.keys() - expected)
    for head in ("top_layer_class", "top_layer_attri"):
        if len(arrays[f"{head}.weight"]) != len(arrays[f"{head}.bias"]):
            raise InputError(f"{head}.weight and {head}.bias are of different lengths; the checkpoint is damaged")

    for bias, running_mean in _SUBTRACTED_FROM.items():
        for name in (bias, running_mean):
            _check(name, arrays[name], _PLACES[running_mean].shape)
        arrays[running_mean] = arrays[running_mean] - arrays.pop(bias)

    variables: dict[str, Any] = {}
    for name, array in arrays.items():
        path, converted = parameter_from_torch(name, array)
        branch = variables
        for part in path[:-1]:
            branch = branch.setdefault(part, {})
        branch[path[-1]] = converted
    return variables


def parameter_from_torch(name: str, array: Shaped[np.ndarray, "*published"]) -> tuple[Path, Shaped[np.ndarray, "*own"]]:
    """Converts the layout of one published array: a weight, its gradient or its update.

    Convolutions' biases, which running means include here, are only handled by `variables_from_torch`.

    Returns:
      Its path in the Flax variables, e.g. ("params", "encoder", "convolution_0", "kernel"), and the float32 array.

    Raises:
      InputError: this network has no such array, or it has another shape or is not finite.
    """
    plain = _without_module(name)
    place = _PLACES.get(plain)
    if place is None:
        raise InputError(f"{name} has no counterpart in this network; give an array of the published one")
    array = np.asarray(array)
    _check(name, array, place.shape)
    return place.path, np.ascontiguousarray(place.convert(array), np.float32)


def _without_module(name: str) -> str:
    return re.sub(r"(^|\.)module(?=\.)", "", name).removeprefix(".")


def _refuse(what: str, names: set[str]) -> None:
    if names:
        shown = ", ".join(repr(name)[1:-1] for name in sorted(names)[:3]) + (", ..." if len(names) > 3 else "")
        raise InputError(
            f"the weights {what} {shown}; give a checkpoint of the published network (Vgg16, DeepEmoClusters)"
        )


def _check(name: str, array: Array, shape: tuple[int | None, ...]) -> None:
    if len(array.shape) != len(shape) or any(
        found == 0 or expected not in (None, found) for found, expected in zip(array.shape, shape, strict=True)
    ):
        wanted = ", ".join("any" if length is None else str(length) for length in shape)
        raise InputError(
            f"{name} is of shape {array.shape}, expected ({wanted}); give a checkpoint of the published network"
        )
    if not np.issubdtype(array.dtype, np.floating) or not np.isfinite(array).all():
        raise InputError(f"{name} does not hold finite floating-point numbers; the checkpoint is damaged")
