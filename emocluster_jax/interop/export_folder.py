"""Exports a model to a folder for use elsewhere.

    config.json          how recordings become the model's input, and its outputs
    model.stablehlo      by `jax.export`
    model.onnx
    model.safetensors    the weights alone
    README.md            the model card

Every file is checked against the model before any is written.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import export as jax_export
from jaxtyping import Array, Float, Float32

from emocluster_jax import __version__
from emocluster_jax.errors import InputError
from emocluster_jax.feed.split import AUDIO, Inputs, mask_name, masked
from emocluster_jax.inference.forward import chunk_outputs
from emocluster_jax.inference.model_directory import (
    EXPORT_CARD,
    EXPORT_CONFIG,
    SavedModel,
    exported_description,
    named_arrays,
    settings_as_json,
    weights_sha256,
)
from emocluster_jax.inference.onnx_graph import not_as_graph, onnx_session, to_onnx
from emocluster_jax.inference.parity import ParityError, check_parity
from emocluster_jax.inference.predictor import Predictor
from emocluster_jax.models.fusion import FUSION
from emocluster_jax.models.network import example_inputs
from emocluster_jax.models.registry import NETWORKS
from emocluster_jax.runtime.platforms import for_every_platform
from emocluster_jax.storage.atomic_files import replacing, write_json
from emocluster_jax.storage.disk import check_output_folder

Format = Literal["stablehlo", "onnx", "safetensors"]
FORMAT_VERSION = 1
PLATFORMS = ("cpu", "cuda", "tpu")
_NEEDS: dict[Format, tuple[str, ...]] = {
    "stablehlo": ("flatbuffers",),
    "onnx": ("onnx", "onnxruntime"),
    "safetensors": ("safetensors",),
}


class Exported(NamedTuple):
    """A file of a model in another format.

    `differences` are each output's largest difference from the model's own; empty if the weights are bit-equal.
    """

    name: str
    content: bytes
    differences: dict[str, float]


def check_request(folder: Path, formats: Sequence[Format], model: SavedModel) -> None:
    """Raises InputError if a package is missing, the model has no such format, or the folder cannot take it."""
    for wanted in formats:
        for package in _NEEDS[wanted]:
            if find_spec(package) is None:
                raise InputError(f'`formats={wanted}` needs {package}: pip install "emocluster_jax[export]"')
    if "onnx" in formats and (reason := not_as_graph(model)):
        raise InputError(f"`formats=onnx` cannot hold {reason}; give `formats=stablehlo`")
    if not model.knows_labels:
        raise InputError("the model was trained without labels and predicts none; export one trained with labels")
    check_output_folder("`output`", folder)
    there, own = exported_description(folder), description(model)
    # Calibration changes the label statistics alone.
    same = all(there.get(entry) == own[entry] for entry in ("weights_sha256", "label_mean", "label_std"))
    if folder.is_dir() and any(folder.iterdir()) and not same:
        raise InputError(f"`output={folder}` holds other files than exports of this model; give a new folder")


def export(model: SavedModel, wanted: Format) -> Exported:
    """Converts a model; ParityError if the result does not compute what the model computes."""
    if wanted == "safetensors":
        return Exported("model.safetensors", _to_safetensors(model), {})
    chunks, further = example_chunks(model), example_further(model)
    if wanted == "stablehlo":
        content = to_stablehlo(model)
        given = (chunks, masked(further)) if further else (chunks,)
        outputs: Any = jax_export.deserialize(bytearray(content)).call(*given)
    else:
        content = to_onnx(model)
        outputs = onnx_session(content)({"chunks": chunks})
    return Exported(f"model.{wanted}", content, _check_parity(wanted, outputs, model, chunks, further))


def example_chunks(model: SavedModel) -> Float[np.ndarray, "n frames mel"]:
    """Chunks of one recording, drawn with a fixed seed: noise of different loudness and colour, clipped as features."""
    features = model.features
    count, random = features.chunks_per_utterance, np.random.default_rng(0)
    noise = random.normal(size=(count, features.chunk_frames, features.dimensions))
    loudness = random.uniform(0.1, 1.5, (count, 1, 1))
    colour = random.normal(size=(count, 1, features.dimensions)) + random.normal(size=(count, 1, 1))
    return (loudness * noise + colour).clip(-features.clip, features.clip).astype(np.float32)


def example_further(model: SavedModel) -> dict[str, Float32[np.ndarray, "1 ..."]]:
    """Further inputs of one recording, drawn with a fixed seed about the means that the model normalises them by."""
    found, random = {}, np.random.default_rng(1)
    for given in model.inputs:
        statistics = model.variables["batch_stats"][FUSION][f"encoder_{given.name}"]
        drawn = random.normal(size=(1, *given.shape(model.features)))
        found[given.name] = (statistics["mean"] + statistics["std"] * drawn).astype(np.float32)
    return found


def _check_parity(
    what: str,
    outputs: Mapping[str, Any],
    model: SavedModel,
    chunks: Float[np.ndarray, "n frames mel"],
    further: Mapping[str, Float32[np.ndarray, "1 ..."]],
) -> dict[str, float]:
    """The largest difference of each output of an exported program, for one recording's inputs, from the model's.

    Raises ParityError as `check_parity`.
    """
    prediction = Predictor(model, engine="jax").predict_chunks(chunks, further)[0]
    expected = {"attributes": prediction.chunk_attributes, "embeddings": prediction.chunk_embeddings}
    if prediction.chunk_clusters is not None:
        expected["clusters"] = prediction.chunk_clusters
    return check_parity(what, outputs, expected)


def to_stablehlo(model: SavedModel) -> bytes:
    """A serialised program with the weights, which JAX and other readers of StableHLO run without this project.

    `jax.export.deserialize` reads it. It takes normalised chunks (n, frames, mel) float32, for any n (models that look
    across chunks: those of whole recordings), and returns a dictionary: attributes (n, A) in label units, embeddings
    (n, E) and, for models with clusters, clusters (n,) int32. A model with further inputs takes them as well, of the
    recordings whose chunks these are: a dictionary with a vector or chunks of frames (n / chunks, ...) of each, and its
    mask (`feed.split.mask_name`).
    """
    # Where each chunk is read alone, any number of them will do.
    whole = NETWORKS[model.config.system].across_chunks or model.inputs
    each = model.features.chunks_per_utterance if whole else 1
    # As JAX arrays they become constants of the program.
    variables, transform, centroids = jax.tree.map(jnp.asarray, (model.variables, model.transform, model.centroids))

    def program(chunks: Float[Array, "n frames mel"], *further: Inputs) -> dict[str, Any]:
        inputs = {AUDIO: chunks.reshape(-1, each, *chunks.shape[1:])}
        for given in further:
            inputs |= given
        outputs = chunk_outputs(model.config, model.clustering, variables, transform, centroids, inputs)
        found = {
            "attributes": outputs.attributes * model.label_std + model.label_mean,
            "embeddings": outputs.embeddings,
        }
        return found if outputs.clusters is None else {**found, "clusters": outputs.clusters}

    rows, recordings = jax_export.symbolic_shape(f"{each}*n, n" if each > 1 else "n, n")
    arguments: list[Any] = [
        jax.ShapeDtypeStruct((rows, model.features.chunk_frames, model.features.dimensions), np.float32)
    ]
    if model.inputs:
        example = example_inputs(model.features, model.inputs)
        arguments.append(
            {
                name: jax.ShapeDtypeStruct((recordings, *rows.shape[1:]), np.float32)
                for name, rows in example.items()
                if name != AUDIO
            }
        )
    with for_every_platform():
        return bytes(jax_export.export(jax.jit(program), platforms=PLATFORMS)(*arguments).serialize())


def _to_safetensors(model: SavedModel) -> bytes:
    """The named arrays, with the description in the file's metadata."""
    from safetensors.numpy import load, save

    arrays = named_arrays(model)
    content = save(arrays, {"format": "emocluster_jax", "config": json.dumps(description(model))})
    read = load(content)
    if read.keys() != arrays.keys() or any(not np.array_equal(read[name], arrays[name]) for name in arrays):
        raise ParityError("safetensors: the weights change when they are written and read")
    return content


def write_export(folder: Path, model: SavedModel, exported: Sequence[Exported], card: str) -> None:
    """Writes the files; an existing card stays, since people edit it."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / EXPORT_CONFIG, description(model))
    contents = {file.name: file.content for file in exported}
    if not (folder / EXPORT_CARD).exists():
        contents[EXPORT_CARD] = card.encode()
    for name, content in contents.items():
        with replacing(folder / name) as temporary:
            temporary.write_bytes(content)


def _further_inputs(model: SavedModel) -> dict[str, Any]:
    """What the program takes beside chunks, by the names of arrays."""
    each, found = model.features.chunks_per_utterance, {}
    for given in model.inputs:
        mask = mask_name(given.name)
        rate = given.frames_per_second
        what = (
            "a vector" if rate is None else f"frames, {rate:g} per second, in chunks of the same times as the sound's"
        )
        found[given.name] = {
            "dtype": "float32",
            "shape": [f"n / {each}", *given.shape(model.features)],
            "meaning": f"{what}, as it is; zeros where it is missing",
        }
        found[mask] = {"dtype": "float32", "shape": [f"n / {each}"], "meaning": "1, or 0 where it is missing"}
    return found


def description(model: SavedModel) -> dict[str, Any]:
    """The content of `config.json`: settings, statistics, input and outputs."""
    features, names, params = model.features, model.config.attributes, model.variables["params"]
    outputs = {
        "attributes": {"dtype": "float32", "shape": ["n", len(names)], "names": list(names), "units": "label units"},
        "embeddings": {"dtype": "float32", "shape": ["n", len(params["encoder"]["shared"]["bias"])]},
    }
    if "cluster_classifier" in params:
        outputs["clusters"] = {"dtype": "int32", "shape": ["n"], "clusters": model.config.clusters}
    return {
        "format_version": FORMAT_VERSION,
        "emocluster_jax": __version__,
        "weights_sha256": weights_sha256(model),
        "input": {
            "chunks": {
                "dtype": "float32",
                "shape": ["n", features.chunk_frames, features.dimensions],
                "meaning": f"chunks of {features.summary}, (time, dimension); per dimension minus feature_mean, "
                "divided by feature_std, NaN to 0, clipped to plus and minus clip",
            },
            **_further_inputs(model),
        },
        "output": outputs,
        **settings_as_json(model),
    }
