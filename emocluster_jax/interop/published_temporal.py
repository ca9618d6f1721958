"""Where the arrays of the authors' temporal networks belong in this project's.

Source: `temporal_net` of the models in Lin & Busso's repository,
winston-lin-wei-cheng/Temporal-Enhanced-DeepEmoCluster.
Names are those that PyTorch gives the arrays of nn.GRU, of nn.Conv2d and nn.BatchNorm2d in a sequence, and of
nn.TransformerEncoderLayer.

PyTorch keeps in one array what belongs to three gates, or to query, key and value, and gives each gate two biases, of
which only the new value's are not just added up. Convolutions' biases are subtracted from the running means here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from emocluster_jax.config import EmoClusterName
from emocluster_jax.models.emocluster_cnn import CHANNELS, KERNEL_SIZE
from emocluster_jax.models.encoder import DENSE_WIDTH

_UNITS = DENSE_WIDTH // 2
"""Of the GRU, in either direction."""


class Part(NamedTuple):
    """What of a published array belongs where in the Flax variables; parts in one place are added up."""

    path: tuple[str, ...]
    convert: Callable[[np.ndarray], np.ndarray] = np.asarray


class Published(NamedTuple):
    """A published array: its shape, and its parts."""

    shape: tuple[int, ...]
    parts: tuple[Part, ...]


def _at(*path: str, collection: str = "params", convert: Callable[[np.ndarray], np.ndarray] = np.asarray) -> Part:
    return Part((collection, "temporal", *path), convert)


def _third(number: int, convert: Callable[[np.ndarray], np.ndarray]) -> Callable[[np.ndarray], np.ndarray]:
    return lambda array: convert(np.split(array, 3)[number])


def _gru() -> dict[str, Published]:
    arrays = {}
    for suffix, direction in (("", "forward"), ("_reverse", "backward")):
        for mark, source, width in (("ih", "i", DENSE_WIDTH), ("hh", "h", _UNITS)):
            kernels, biases = [], []
            for number, gate in enumerate("rzn"):
                biased = "hn" if (mark, gate) == ("hh", "n") else f"i{gate}"
                kernels.append(_at(direction, f"{source}{gate}", "kernel", convert=_third(number, np.transpose)))
                biases.append(_at(direction, biased, "bias", convert=_third(number, np.asarray)))
            arrays[f"weight_{mark}_l0{suffix}"] = Published((3 * _UNITS, width), tuple(kernels))
            arrays[f"bias_{mark}_l0{suffix}"] = Published((3 * _UNITS,), tuple(biases))
    return arrays


def _cnn() -> dict[str, Published]:
    arrays = {}
    for i, (inputs, outputs) in enumerate(((1, CHANNELS), (CHANNELS, 1))):
        # Convolution, batch normalisation and ReLU are numbered one after another.
        convolution, norm, one = str(3 * i), str(3 * i + 1), (outputs,)
        kernel = _at(f"convolution_{i}", "kernel", convert=lambda array: np.transpose(array, (2, 3, 1, 0)))
        mean = (f"norm_{i}", "mean")
        arrays |= {
            f"{convolution}.weight": Published((outputs, inputs, KERNEL_SIZE, KERNEL_SIZE), (kernel,)),
            f"{convolution}.bias": Published(one, (_at(*mean, collection="batch_stats", convert=np.negative),)),
            f"{norm}.weight": Published(one, (_at(f"norm_{i}", "scale"),)),
            f"{norm}.bias": Published(one, (_at(f"norm_{i}", "bias"),)),
            f"{norm}.running_mean": Published(one, (_at(*mean, collection="batch_stats"),)),
            f"{norm}.running_var": Published(one, (_at(f"norm_{i}", "var", collection="batch_stats"),)),
        }
    return arrays


def _transformer() -> dict[str, Published]:
    width, one = DENSE_WIDTH, (DENSE_WIDTH,)

    def by_head(array: np.ndarray) -> np.ndarray:
        return array.T[:, None]

    projections = tuple(enumerate(("query", "key", "value")))
    kernels = (_at("attention", name, "kernel", convert=_third(i, by_head)) for i, name in projections)
    biases = (_at("attention", name, "bias", convert=_third(i, lambda part: part[None])) for i, name in projections)
    output = _at("attention", "out", "kernel", convert=lambda array: array.T[None])
    arrays = {
        "self_attn.in_proj_weight": Published((3 * width, width), tuple(kernels)),
        "self_attn.in_proj_bias": Published((3 * width,), tuple(biases)),
        "self_attn.out_proj.weight": Published((width, width), (output,)),
        "self_attn.out_proj.bias": Published(one, (_at("attention", "out", "bias"),)),
    }
    for i in range(2):
        dense, norm = f"linear{i + 1}", f"norm{i + 1}"
        arrays |= {
            f"{dense}.weight": Published((width, width), (_at(f"dense_{i}", "kernel", convert=np.transpose),)),
            f"{dense}.bias": Published(one, (_at(f"dense_{i}", "bias"),)),
            f"{norm}.weight": Published(one, (_at(f"norm_{i}", "scale"),)),
            f"{norm}.bias": Published(one, (_at(f"norm_{i}", "bias"),)),
        }
    return arrays


def _named(arrays: Mapping[str, Published]) -> dict[str, Published]:
    return {f"temporal_net.{name}": array for name, array in arrays.items()}


TEMPORAL: Mapping[EmoClusterName, Mapping[str, Published]] = {
    "emocluster": {},
    "emocluster_gru": _named(_gru()),
    "emocluster_cnn": _named(_cnn()),
    "emocluster_transformer": _named(_transformer()),
}
"""By system, the published arrays of its temporal network, by their names."""


def temporal_variables(system: EmoClusterName, arrays: Mapping[str, np.ndarray]) -> dict[tuple[str, ...], np.ndarray]:
    """The Flax variables of a system's temporal network by their paths, float32, of all of its published arrays."""
    found: dict[tuple[str, ...], Any] = {}
    for name, published in TEMPORAL[system].items():
        for path, convert in published.parts:
            found[path] = found.get(path, 0) + convert(arrays[name])
    return {path: np.ascontiguousarray(array, np.float32) for path, array in found.items()}
