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
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import numpy as np

from emocluster_jax import __version__
from emocluster_jax.errors import InputError
from emocluster_jax.inference.model_directory import SavedModel, named_arrays, weights_sha256
from emocluster_jax.interop.parity import ParityError, check_parity, example_chunks
from emocluster_jax.models.registry import trains_on_recordings
from emocluster_jax.settings import to_dict
from emocluster_jax.storage.atomic_files import replacing, write_json
from emocluster_jax.storage.disk import check_output_folder
from emocluster_jax.storage.json_files import read_json

Format = Literal["stablehlo", "onnx", "safetensors"]
FORMAT_VERSION = 1
CONFIG = "config.json"
CARD = "README.md"
_NEEDS: dict[Format, tuple[str, ...]] = {
    "stablehlo": ("flatbuffers",),
    "onnx": ("onnx", "onnxruntime"),
    "safetensors": ("safetensors",),
}


@dataclass(frozen=True)
class Exported:
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
    if "onnx" in formats and trains_on_recordings(model.config):
        raise InputError("`formats=onnx` cannot hold a model that looks across chunks; give `formats=stablehlo`")
    if model.inputs:
        raise InputError(
            f"the model reads {', '.join(dict(model.inputs))} besides audio, and exported models take audio alone; "
            "predict with the model itself"
        )
    if not model.knows_labels:
        raise InputError("the model was trained without labels and predicts none; export one trained with labels")
    check_output_folder("`output`", folder)
    if folder.is_dir() and any(folder.iterdir()) and _weights_of(folder) != weights_sha256(model):
        raise InputError(f"`output={folder}` holds other files than exports of this model; give a new folder")


def export(model: SavedModel, wanted: Format) -> Exported:
    """Converts a model; ParityError if the result does not compute what the model computes."""
    if wanted == "safetensors":
        return Exported("model.safetensors", _to_safetensors(model), {})
    chunks = example_chunks(model)
    if wanted == "stablehlo":
        from emocluster_jax.interop.stablehlo import run_stablehlo, to_stablehlo

        program = to_stablehlo(model)
        return Exported("model.stablehlo", program, check_parity(wanted, run_stablehlo(program, chunks), model, chunks))
    from emocluster_jax.interop.onnx_graph import run_onnx, to_onnx

    graph = to_onnx(model)
    return Exported("model.onnx", graph, check_parity(wanted, run_onnx(graph, chunks), model, chunks))


def write_export(folder: Path, model: SavedModel, exported: Sequence[Exported], card: str) -> None:
    """Writes the files; an existing card stays, since people edit it."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / CONFIG, description(model))
    for file in exported:
        with replacing(folder / file.name) as temporary:
            temporary.write_bytes(file.content)
    if not (folder / CARD).exists():
        with replacing(folder / CARD) as temporary:
            temporary.write_text(card, "utf-8")


def description(model: SavedModel) -> dict[str, Any]:
    """The content of `config.json`: settings, statistics, input and outputs."""
    features, names = model.features, model.config.attributes
    outputs = {
        "attributes": {"dtype": "float32", "shape": ["n", len(names)], "names": list(names), "units": "label units"},
        "embeddings": {"dtype": "float32", "shape": ["n", len(model.variables["params"]["encoder"]["shared"]["bias"])]},
    }
    if "cluster_classifier" in model.variables["params"]:
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
            }
        },
        "output": outputs,
        "features": to_dict(features),
        "audio": to_dict(model.audio),
        "feature_mean": model.feature_mean.astype(float).tolist(),
        "feature_std": model.feature_std.astype(float).tolist(),
        "label_mean": dict(zip(names, model.label_mean.astype(float).tolist(), strict=True)),
        "label_std": dict(zip(names, model.label_std.astype(float).tolist(), strict=True)),
        "model": to_dict(model.config),
        "clustering": to_dict(model.clustering),
    }


def _to_safetensors(model: SavedModel) -> bytes:
    """The named arrays, with the description in the file's metadata."""
    from safetensors.numpy import load, save

    arrays = named_arrays(model)
    content = save(arrays, {"format": "emocluster_jax", "config": json.dumps(description(model))})
    read = load(content)
    if read.keys() != arrays.keys() or any(not np.array_equal(read[name], arrays[name]) for name in arrays):
        raise ParityError("safetensors: the weights change when they are written and read")
    return content


def _weights_of(folder: Path) -> Any:
    """The hash in the folder's description; None if there is none."""
    try:
        return read_json(folder / CONFIG, "")["weights_sha256"]
    except (FileNotFoundError, InputError, KeyError, TypeError):
        return None
