"""The authors' published models as this project's.

Source: `*.pth.tar` weights and `*.mat` statistics of Lin, Sridhar & Busso's repository,
winston-lin-wei-cheng/DeepEmoClusters, and of Lin & Busso's, winston-lin-wei-cheng/Temporal-Enhanced-DeepEmoCluster.

Neither is trusted: weights are read by PyTorch's weights-only unpickler, which calls only constructors of tensors and
containers, and SciPy's reader of MATLAB files creates only arrays.

Besides the names, three things differ in the network. Convolution kernels are (out, in, height, width) there and
(height, width, in, out) here, dense kernels (out, in) and (in, out). The encoder's output is flattened from (channel,
time, mel) there and from (time, mel, channel) here. And convolutions have biases there, which are subtracted from the
running means here: (x + b) - mean = x - (mean - b).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from flax.traverse_util import unflatten_dict
from jaxtyping import Float, Shaped

from emocluster_jax.config import DEFAULT_AUDIO, ClusteringConfig, EmoClusterName, FeatureConfig, ModelConfig
from emocluster_jax.errors import InputError
from emocluster_jax.inference.model_directory import SavedModel, first_line
from emocluster_jax.interop.published_temporal import TEMPORAL, temporal_variables
from emocluster_jax.models.emocluster_transformer import positions
from emocluster_jax.models.encoder import CONVOLUTION_WIDTHS, DENSE_WIDTH
from emocluster_jax.storage.checksums import file_sha256

_MARKS = {"arousal": "act", "dominance": "dom", "valence": "val"}
"""The attributes' names in the published file names."""


def import_published(weights: Path, norm: Path, attribute: str) -> SavedModel:
    """A published model, without centroids, ready for `model_directory.save_model`.

    Args:
      weights: a `.pth.tar` file of a published repository, or one of the same network. The system is the one whose
        temporal network it holds; files of the Temp-Triplet, which hold none, are known by their name alone.
      norm: the folder with its `feat_norm_means.mat`, `feat_norm_stds.mat`, and those of the attribute.
      attribute: arousal, dominance or valence.

    Raises InputError if PyTorch is not installed, or a file is missing, damaged, or of another attribute or network.
    """
    if attribute not in _MARKS:
        raise InputError(f"attribute {attribute!r} is unknown; expected one of {', '.join(_MARKS)}")
    marks = weights.name.split(".")[0].lower().split("_")
    named = next((name for name, theirs in _MARKS.items() if theirs in marks), attribute)
    if named != attribute:
        raise InputError(
            f"{weights.name} is a model of {named} by its name, not of {attribute}; give `attribute={named}`"
        )
    features = FeatureConfig()
    statistics: dict[str, Any] = {
        f"{ours}_{name}": _read_norm(norm / f"{theirs}_norm_{name}s.mat", length)
        for ours, theirs, length in (("feature", "feat", features.mel_bands), ("label", _MARKS[attribute], 1))
        for name in ("mean", "std")
    }
    if statistics["feature_std"].min() <= 0 or statistics["label_std"].min() <= 0:
        raise InputError(f"{norm} has a standard deviation that is not positive; download it again")
    state_dict = _read_state_dict(weights)
    variables, system = variables_from_torch(state_dict), published_system(state_dict)
    if system == "emocluster" and "temp-triplet" in marks:
        system = "emocluster_triplet"
    params = variables["params"]
    attributes = len(params["attribute_regressor"]["output"]["bias"])
    if attributes != 1:
        raise InputError(f"{weights} predicts {attributes} attributes; published models predict one")
    clusters = len(params["cluster_classifier"]["output"]["bias"])
    return SavedModel(
        config=ModelConfig(system=system, attributes=(attribute,), clusters=clusters),  # type: ignore[arg-type]
        clustering=ClusteringConfig(),
        features=features,
        variables=variables,
        transform=None,
        centroids=None,
        audio=DEFAULT_AUDIO,
        origin={"imported_from": weights.name, "sha256": file_sha256(weights)},
        **statistics,
    )


def _read_norm(path: Path, length: int) -> Float[np.ndarray, " length"]:
    import scipy.io

    if not path.is_file():
        raise InputError(f"{path} is missing; give the folder of published statistics (norm/)")
    try:
        value = scipy.io.loadmat(path, variable_names=["normal_para"])["normal_para"]
    except KeyError:
        raise InputError(f"{path} holds no `normal_para`; give the folder of published statistics (norm/)") from None
    except Exception as error:  # SciPy raises whatever the parsing of a damaged file leads to
        raise InputError(f"{path} is not a readable MATLAB file ({first_line(error)}); download it again") from None
    if not np.issubdtype(value.dtype, np.floating) or value.size != length or not np.isfinite(value).all():
        raise InputError(
            f"{path} holds {value.size} values of {value.dtype}, expected {length} finite numbers; download it again"
        )
    return value.astype(np.float32).reshape(-1)


def _read_state_dict(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a PyTorch checkpoint by name."""
    try:
        import torch
    except ImportError:
        raise InputError('PyTorch is needed to read its weights: pip install "emocluster_jax[import]"') from None
    if not path.is_file():
        raise InputError(f"{path} is not a file; give a published .pth.tar file")
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # the unpickler raises whatever damaged bytes lead it to
        raise InputError(
            f"{path} is not a checkpoint of plain tensors, and nothing else is read ({first_line(error)}); "
            "give a published .pth.tar file"
        ) from None
    state_dict: Any = checkpoint.get("state_dict", checkpoint) if isinstance(checkpoint, Mapping) else None
    if not isinstance(state_dict, Mapping) or not all(
        isinstance(name, str) and isinstance(tensor, torch.Tensor) for name, tensor in state_dict.items()
    ):
        raise InputError(f"{path} holds no `state_dict` of named tensors; give a published .pth.tar file")
    try:
        return {name: _as_numpy(tensor) for name, tensor in state_dict.items()}
    except (RuntimeError, TypeError, NotImplementedError) as error:
        raise InputError(f"{path} has tensors that are not plain arrays ({first_line(error)})") from None


def _as_numpy(tensor: Any) -> np.ndarray:
    # A tensor of any size can be declared over a few stored numbers, with all rows on top of one another.
    if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
        raise TypeError(f"a tensor of {tensor.numel()} elements with fewer stored")
    return (tensor.detach().float() if tensor.is_floating_point() else tensor.detach()).numpy()


ENCODER_OUTPUT = (CONVOLUTION_WIDTHS[-1], 2, 4)
"""Channels, time and mel of the encoder's last activation, for chunks of 62 frames and 128 bands."""

Array = np.ndarray


class _Place(NamedTuple):
    path: tuple[str, ...]
    shape: tuple[int | None, ...]
    """The published array's shape; None stands for the number of clusters or attributes."""
    convert: Callable[[Array], Array] = np.asarray


def _shared_kernel(array: Array) -> Array:
    by_place = array.T.reshape(*ENCODER_OUTPUT, -1)
    return by_place.transpose(1, 2, 0, 3).reshape(-1, by_place.shape[-1])


def _places() -> dict[str, _Place]:
    """Every array of the published network that this one has, by its published name."""
    places = {}
    to_kernel = partial(np.transpose, axes=(2, 3, 1, 0))
    for i, (in_width, width) in enumerate(pairwise([1, *CONVOLUTION_WIDTHS])):
        # Convolution, batch normalisation and ReLU are numbered one after another in `cnn_features`.
        kernel_path = ("params", "encoder", f"convolution_{i}", "kernel")
        places[f"cnn_features.{3 * i}.weight"] = _Place(kernel_path, (width, in_width, 3, 3), to_kernel)
        for collection, theirs, ours in (
            ("params", "weight", "scale"),
            ("params", "bias", "bias"),
            ("batch_stats", "running_mean", "mean"),
            ("batch_stats", "running_var", "var"),
        ):
            norm_path = (collection, "encoder", f"norm_{i}", ours)
            places[f"cnn_features.{3 * i + 1}.{theirs}"] = _Place(norm_path, (width,))
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
_POSITIONS = "pos_enc.pe"
"""Numbers that are no weights, beside those of the Transformer."""


def published_system(state_dict: Mapping[str, np.ndarray]) -> EmoClusterName:
    """The system whose temporal network the published arrays hold the most of, by their names; emocluster for none."""
    names = {_without_module(name) for name in state_dict}
    return max(TEMPORAL, key=lambda system: len(names & TEMPORAL[system].keys()))


def variables_from_torch(state_dict: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Flax variables of a published network, float32, with as many clusters and attributes as its output layers have.

    The network is that of `published_system`. The `.module` parts that data parallelism left in names are ignored.
    Raises InputError if arrays are missing, unknown, of another shape, not of floating point, or not finite.
    """
    arrays: dict[str, Array] = {}
    for name, array in state_dict.items():
        plain = _without_module(name)
        if plain in arrays:
            raise InputError(f"the weights hold {plain} twice; give a checkpoint of one network")
        if not plain.endswith(".num_batches_tracked"):
            arrays[plain] = np.asarray(array)
    system = published_system(arrays)
    temporal = TEMPORAL[system]
    if system == "emocluster_transformer" and _POSITIONS in arrays:
        _check_positions(arrays.pop(_POSITIONS))
    expected = _PLACES.keys() | _SUBTRACTED_FROM.keys() | temporal.keys()
    _refuse("lack", expected - arrays.keys())
    _refuse("hold what the published network does not have:", arrays.keys() - expected)
    for head in ("top_layer_class", "top_layer_attri"):
        if len(arrays[f"{head}.weight"]) != len(arrays[f"{head}.bias"]):
            raise InputError(f"{head}.weight and {head}.bias are of different lengths; the checkpoint is damaged")

    for bias, running_mean in _SUBTRACTED_FROM.items():
        for name in (bias, running_mean):
            _check(name, arrays[name], _PLACES[running_mean].shape)
        arrays[running_mean] = arrays[running_mean] - arrays.pop(bias)

    for name, published in temporal.items():
        _check(name, arrays[name], published.shape)
    converted = temporal_variables(system, arrays)
    converted |= dict(parameter_from_torch(name, array) for name, array in arrays.items() if name not in temporal)
    return unflatten_dict(converted)


def parameter_from_torch(
    name: str, array: Shaped[np.ndarray, "*published"]
) -> tuple[tuple[str, ...], Shaped[np.ndarray, "*own"]]:
    """Converts the layout of one published array: a weight, its gradient or its update.

    Convolutions' biases, which running means include here, and the arrays of temporal networks are only handled by
    `variables_from_torch`.

    Returns its path in the Flax variables, e.g. ("params", "encoder", "convolution_0", "kernel"), and the array,
    float32. Raises InputError if this network has no such array, or it has another shape or is not finite.
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
            f"the weights {what} {shown}; give a checkpoint of a published network (Vgg16, DeepEmoClusters)"
        )


def _check_positions(array: Array) -> None:
    """Raises InputError unless these are the positions that the Transformer adds here."""
    _check(_POSITIONS, array, (FeatureConfig().chunks_per_utterance, 1, DENSE_WIDTH))
    if not np.allclose(array[:, 0], positions(len(array), DENSE_WIDTH), rtol=0, atol=1e-5):
        raise InputError(f"{_POSITIONS} does not hold sinusoidal positions; give a checkpoint of a published network")


def _check(name: str, array: Array, shape: tuple[int | None, ...]) -> None:
    if len(array.shape) != len(shape) or any(
        found == 0 or expected not in (None, found) for found, expected in zip(array.shape, shape, strict=True)
    ):
        wanted = ", ".join("any" if length is None else str(length) for length in shape)
        raise InputError(
            f"{name} is of shape {array.shape}, expected ({wanted}); give a checkpoint of a published network"
        )
    if not np.issubdtype(array.dtype, np.floating) or not np.isfinite(array).all():
        raise InputError(f"{name} does not hold finite floating-point numbers; the checkpoint is damaged")
