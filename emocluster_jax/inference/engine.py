"""What computes a model's outputs in prediction and evaluation: JAX, on its default device, or ONNX Runtime on the CPU.

On CPUs ONNX Runtime's convolutions are the faster ones. Its graph is made from the model as it is loaded, and what it
makes of the first recording is compared with JAX's outputs.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from threading import Lock
from typing import Any

import jax
import numpy as np
from jaxtyping import Bool, Float, Int

from emocluster_jax.config import Engine
from emocluster_jax.errors import InputError
from emocluster_jax.feed.split import AUDIO, Inputs, Split, block_starts
from emocluster_jax.inference.forward import Outputs, chunk_outputs
from emocluster_jax.inference.model_directory import SavedModel
from emocluster_jax.inference.onnx_graph import not_as_graph, onnx_session, to_onnx
from emocluster_jax.inference.parity import ParityError, check_parity
from emocluster_jax.models.encoder import DENSE_WIDTH, scaled_width
from emocluster_jax.runtime import parallel
from emocluster_jax.runtime.host import usable_cores
from emocluster_jax.runtime.loops import in_order

_BLOCK = 4
"""Recordings of a split that a thread computes at a time."""

OnHost = Mapping[str, np.ndarray]
"""Inputs, float32, that are not on a device yet."""


class JaxNetwork:
    """A model's network with its weights on JAX's default device; compiled per shape of the inputs."""

    def __init__(self, model: SavedModel) -> None:
        self._settings = model.config, model.clustering
        self._arrays = jax.device_put((model.variables, model.transform, model.centroids))

    def __call__(self, inputs: OnHost) -> Outputs:
        """The outputs for the chunks of normalised recordings, without waiting for the device."""
        return _forward(*self._settings, *self._arrays, inputs)


class OnnxNetwork:
    """The same by ONNX Runtime on the CPU, on the thread that calls it; any number of threads may.

    Raises, in the first call, InputError if the outputs are not the model's.
    """

    def __init__(self, model: SavedModel) -> None:
        self._model = model
        # In z-normalised label units, as `Outputs` are.
        unscaled = {"label_mean": np.zeros_like(model.label_mean), "label_std": np.ones_like(model.label_std)}
        self._session = onnx_session(to_onnx(dataclasses.replace(model, **unscaled)), threads=1)
        self._lock, self._is_checked = Lock(), False

    def __call__(self, inputs: OnHost) -> Outputs:
        """The outputs for the chunks of normalised recordings, as NumPy arrays."""
        audio = inputs[AUDIO]
        found: Any = self._session({"chunks": audio.reshape(-1, *audio.shape[2:])})
        with self._lock:
            if not self._is_checked:
                self._check(found, inputs)
                self._is_checked = True
        return Outputs(**found)

    def of_split(self, split: Split, advance: Callable[[int], None]) -> Outputs:
        """The embeddings and attributes of a split that is on a single device, as `Forward` gives them.

        `advance` is told how many more chunks are done.
        """
        count, each, cores = split.utterances, split.chunks_per_utterance, usable_cores()
        config, starts = self._model.config, block_starts(_BLOCK, count)
        embeddings = np.empty((count * each, scaled_width(DENSE_WIDTH, config)), np.float32)
        attributes = np.empty((count * each, len(config.attributes)), np.float32)

        def outputs_of(block: Inputs) -> Outputs:
            return self({name: np.asarray(rows)[0].astype(np.float32) for name, rows in block.items()})

        done = 0
        with split.blocks(_BLOCK) as blocks, ThreadPoolExecutor(cores, thread_name_prefix="network") as pool:
            for start, outputs in zip(starts.tolist(), in_order(pool, outputs_of, blocks, ahead=cores), strict=True):
                rows = slice(start * each, min(start + _BLOCK, count) * each)
                embeddings[rows] = outputs.embeddings[: rows.stop - rows.start]
                attributes[rows] = outputs.attributes[: rows.stop - rows.start]
                advance(rows.stop - done)
                done = rows.stop
        return Outputs(parallel.deal(embeddings[None]), parallel.deal(attributes[None]))

    def _check(self, outputs: dict[str, Any], inputs: OnHost) -> None:
        """Compares the first recording's: one is enough, and a program of that shape is needed once for all callers."""
        model, each = self._model, inputs[AUDIO].shape[1]
        own = jax.device_get(JaxNetwork(model)({name: rows[:1] for name, rows in inputs.items()}))
        found = {name: rows[:each] for name, rows in outputs.items()}
        expected = {name: value for name, value in own._asdict().items() if value is not None}
        scale = model.label_std if model.knows_labels else np.float32(1)
        compared = {**found, "attributes": found["attributes"] * scale}
        expected["attributes"] = expected["attributes"] * scale
        if own.clusters is not None:
            ties = _are_ties(model, own.embeddings, own.clusters, found["clusters"])
            compared["clusters"] = np.where(ties, own.clusters, found["clusters"])
        try:
            check_parity("ONNX Runtime", compared, expected)
        except ParityError as error:
            raise InputError(f"{error}; give `engine=jax`") from error


def missing_packages() -> list[str]:
    """What ONNX Runtime's part needs and is not installed."""
    return [package for package in ("onnx", "onnxruntime") if find_spec(package) is None]


def check_engine(engine: Engine, model: SavedModel) -> None:
    """Raises InputError where ONNX Runtime is asked for, and is not installed or cannot run the model."""
    if engine != "onnx":
        return
    if missing := missing_packages():
        raise InputError(f'`engine=onnx` needs {" and ".join(missing)}: pip install "emocluster_jax[onnx]"')
    if reason := not_as_graph(model):
        raise InputError(f"`engine=onnx` cannot run {reason}; give `engine=jax`")


def runs_on_onnx(engine: Engine, model: SavedModel) -> bool:
    """Whether ONNX Runtime runs a model; `auto` takes it where it is installed, and JAX has no more than a CPU.

    Raises InputError as `check_engine`.
    """
    check_engine(engine, model)
    if engine != "auto":
        return engine == "onnx"
    on_cpu = jax.default_backend() == "cpu" and jax.device_count() == 1
    return on_cpu and not missing_packages() and not_as_graph(model) is None


def _are_ties(
    model: SavedModel, embeddings: Float[np.ndarray, "n E"], ours: Int[np.ndarray, " n"], theirs: Int[np.ndarray, " n"]
) -> Bool[np.ndarray, " n"]:
    """By chunk, whether its embedding belongs to our cluster as much as to theirs, up to rounding."""
    if model.centroids is None:
        output = model.variables["params"]["cluster_classifier"]["output"]
        scores = embeddings.clip(min=0) @ output["kernel"] + output["bias"]
    else:
        scores = -np.square(model.clustered(embeddings)[:, None] - model.centroids).sum(axis=2)
    one, other = (np.take_along_axis(scores, chosen[:, None], axis=1)[:, 0] for chosen in (ours, theirs))
    return np.isclose(one, other, rtol=1e-4, atol=1e-4)


_forward = jax.jit(chunk_outputs, static_argnums=(0, 1))
