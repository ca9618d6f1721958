"""A model directory: everything that prediction needs, and no training data.

    model.json          settings, statistics, attribute names, centroids' shape, and the name of the weights folder
    weights-000012/     Orbax: parameters, batch statistics, centroids; with the SHA-256 of every file in SHA256SUMS

`model.json` holds a checksum of itself. It is replaced last, by one rename, so that a reader finds the old model or the
new one. Loading reads arrays and JSON only, and nothing outside the directory.

Training writes a new model in two steps, so that it always agrees with the run's checkpoint: first all of it, with its
description as `.pending.json`, which no reader looks at, and the rename only once the checkpoint is in place.
"""

from __future__ import annotations

import hashlib
import math
import os
import re
import shutil
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from jaxtyping import Float

from emocluster_jax.clustering.embedding_transform import EmbeddingTransform, transform
from emocluster_jax.config import (
    DEFAULT_AUDIO,
    LABEL,
    AudioConfig,
    ClusteringConfig,
    Features,
    ModelConfig,
    features_from_dict,
)
from emocluster_jax.corpora.inputs import FurtherInputs, inputs_as_json, inputs_from_json
from emocluster_jax.errors import InputError
from emocluster_jax.models.encoder import DENSE_WIDTH, scaled_width
from emocluster_jax.models.registry import further_inputs, variables_of
from emocluster_jax.settings import from_dict
from emocluster_jax.storage.checksums import CHECKSUMS, check_checksums, file_sha256, write_checksums
from emocluster_jax.storage.disk import check_room, check_utf8
from emocluster_jax.storage.json_files import read_json, read_sealed, write_sealed

MODEL = "model"
"""The model directory in a work directory of training."""
EXPORT_CONFIG = "config.json"
"""The description in a folder that `launch.export` wrote, which is not a model directory."""
EXPORT_CARD = "README.md"
"""The model card in such a folder."""
FORMAT_VERSION = 1
_DESCRIPTION = "model.json"
_PENDING = ".pending.json"
"""The description of a model that is not adopted yet."""
_WEIGHTS_NAME = re.compile(r"weights-[0-9]{6}")
_REMEDY = "write the model anew, or restore a copy"
_METADATA_BYTES = 2**18
"""What Orbax writes beside the arrays, at most."""
_MOST_BYTES = 2 << 30
"""The limit for a model's arrays: six hundred times the published network's."""


@dataclass(frozen=True)
class SavedModel:
    """A trained network with what turns recordings into its input and its output into label units.

    Attributes:
      config: the network's settings.
      clustering: how the embeddings were clustered.
      features: how recordings become chunks.
      feature_mean: mean of every mel band, or dimension of given features, over the training frames, float32.
      feature_std: their standard deviation, float32.
      label_mean: mean training label of each of the model's attributes, float32, unless it was calibrated; NaN for a
        model that was trained without labels, which predicts NaN. A prediction is the network's output times
        `label_std` plus `label_mean`.
      label_std: standard deviation of the labels, float32; likewise.
      variables: Flax variables: "params" and "batch_stats".
      transform: the principal components that embeddings are projected on before they are compared with the centroids.
      centroids: of the last K-means, of labelled recordings where there are any, float32; None for imported models and
        for systems without clusters.
      origin: where the model comes from, for people: the run's settings and scores, or the imported file, and what it
        was calibrated on.
      audio: how audio files became the signals that it was trained on.
      inputs: the network's further inputs.
    """

    config: ModelConfig
    clustering: ClusteringConfig
    features: Features
    feature_mean: Float[np.ndarray, " bands"]
    feature_std: Float[np.ndarray, " bands"]
    label_mean: Float[np.ndarray, " A"]
    label_std: Float[np.ndarray, " A"]
    variables: dict[str, Any]
    transform: EmbeddingTransform | None
    centroids: Float[np.ndarray, "K E"] | None
    origin: dict[str, Any]
    audio: AudioConfig = DEFAULT_AUDIO
    inputs: FurtherInputs = ()

    @property
    def knows_labels(self) -> bool:
        """Whether it was trained on labels, so that its attributes mean something."""
        return bool(np.isfinite(self.label_std).all())

    def clustered(self, embeddings: Float[np.ndarray, "n E"]) -> Float[np.ndarray, "n clustered"]:
        """The embeddings as they are compared with the centroids."""
        return np.asarray(transform(embeddings, self.transform, l2_normalize=self.clustering.unit_length))

    def normalized_by(self, mean: Float[np.ndarray, " bands"], std: Float[np.ndarray, " bands"]) -> bool:
        """Whether the model's chunks are normalised by these statistics."""
        ours, theirs = (self.feature_mean, self.feature_std), (mean.astype(np.float32), std.astype(np.float32))
        return all(map(np.array_equal, ours, theirs))


def named_arrays(model: SavedModel) -> dict[str, np.ndarray]:
    """All arrays that prediction needs, e.g. "encoder.convolution_0.kernel", and "mean" and "var" of "encoder.norm_0".

    The centroids are "centroids", the principal components "embedding_transform.mean" and ".projection".
    """
    arrays = {
        ".".join(key.key for key in path): leaf
        for collection in model.variables.values()
        for path, leaf in jax.tree_util.tree_flatten_with_path(collection)[0]
    }
    if model.transform is not None:
        arrays |= {f"embedding_transform.{name}": array for name, array in model.transform._asdict().items()}
    if model.centroids is not None:
        arrays["centroids"] = model.centroids
    return {name: np.ascontiguousarray(arrays[name], np.float32) for name in sorted(arrays)}


def weights_sha256(model: SavedModel) -> str:
    """SHA-256 of the model's arrays with their names and shapes, in hexadecimal."""
    digest = hashlib.sha256()
    for name, array in named_arrays(model).items():
        digest.update(f"{name} {array.shape}\n".encode())
        digest.update(array.astype("<f4").tobytes())
    return digest.hexdigest()


def save_model(directory: Path, model: SavedModel) -> None:
    """Writes a model, and then replaces the one that may be in `directory`, which is created when missing."""
    write_pending(directory, model)
    adopt_pending(directory)


def write_pending(directory: Path, model: SavedModel) -> None:
    """Writes a model, in place of a pending one; until `adopt_pending`, readers find the previous model."""
    directory.mkdir(parents=True, exist_ok=True)
    there = [int(path.name[-6:]) for path in directory.iterdir() if _WEIGHTS_NAME.fullmatch(path.name)]
    name = f"weights-{max(there, default=-1) + 1:06d}"
    arrays: dict[str, Any] = {"variables": model.variables}
    if model.centroids is not None:
        arrays["centroids"] = np.asarray(model.centroids, np.float32)
    if model.transform is not None:
        arrays["transform"] = model.transform._asdict()
    save_arrays(directory / name, jax.tree.map(np.asarray, arrays))
    values = {
        "format_version": FORMAT_VERSION,
        "weights": name,
        "weights_sha256": file_sha256(directory / name / CHECKSUMS),
        **settings_as_json(model),
        "inputs": inputs_as_json(model.inputs),
        "has_centroids": model.centroids is not None,
        "origin": model.origin,
    }
    write_sealed(directory / _PENDING, values)


def settings_as_json(model: SavedModel) -> dict[str, Any]:
    """A model's settings and statistics in JSON's types; None for the label statistics of a model without labels."""

    def by_attribute(values: Float[np.ndarray, " A"]) -> dict[str, float | None]:
        known = values.astype(float).tolist() if model.knows_labels else [None] * len(values)
        return dict(zip(model.config.attributes, known, strict=True))

    return {
        "model": asdict(model.config),
        "clustering": asdict(model.clustering),
        "features": asdict(model.features),
        "audio": asdict(model.audio),
        "feature_mean": model.feature_mean.astype(float).tolist(),
        "feature_std": model.feature_std.astype(float).tolist(),
        "label_mean": by_attribute(model.label_mean),
        "label_std": by_attribute(model.label_std),
    }


def adopt_pending(directory: Path) -> None:
    """Replaces the model that readers find by the pending one, if there is one."""
    path = directory / _DESCRIPTION
    if (directory / _PENDING).exists():
        (directory / _PENDING).replace(path)
    # The weights of earlier models, and of those that were never adopted, go.
    needed = _read_description(path).get("weights") if path.exists() else None
    for weights in directory.glob("weights-*"):
        if weights.name != needed:
            shutil.rmtree(weights)


def settle(directory: Path, epoch: int, run_id: str = "") -> None:
    """Adopts the model that a killed training left pending if it is of this epoch of the run, and removes it otherwise.

    The directory need not exist. Raises InputError if a description is damaged.
    """
    pending = directory / _PENDING
    if pending.exists() and _epoch(pending, run_id) != epoch:
        pending.unlink()
    adopt_pending(directory)


def model_epoch(directory: Path, run_id: str = "") -> int | None:
    """The epoch of this run that a directory's model is from, or None; InputError if its description is damaged."""
    path = directory / _DESCRIPTION
    return _epoch(path, run_id) if path.exists() else None


def _epoch(path: Path, run_id: str) -> int | None:
    origin = _read_description(path).get("origin")
    return origin.get("epoch") if isinstance(origin, dict) and origin.get("run", "") == run_id else None


def read_model(directory: Path) -> SavedModel:
    """Reads a model directory.

    Raises InputError if it is not one, of another format version, damaged, or may harm: links to files outside of it,
    holds pipes, or describes absurd sizes.
    """
    path = directory / _DESCRIPTION
    if path.exists():
        _check_files(directory)
    description = _read_description(path)
    try:
        config = from_dict(ModelConfig, description["model"], f"{path}: model")
        clustering = from_dict(ClusteringConfig, description["clustering"], f"{path}: clustering")
        features = features_from_dict(description["features"], f"{path}: features")
        weights = description["weights"]
        if not isinstance(weights, str) or not _WEIGHTS_NAME.fullmatch(weights):
            raise InputError(f"{path}: {weights!r} is not the name of a weights folder; write the model anew")
        has_centroids, origin = description["has_centroids"], description.get("origin", {})
        if not isinstance(has_centroids, bool) or not isinstance(origin, dict):
            raise InputError(f"{path}: has_centroids or origin is damaged; write the model anew")
        where = f"{path}: inputs"
        inputs = further_inputs(config, inputs_from_json(description.get("inputs", {}), where), where)
        template = _array_template(config, clustering, features, inputs, has_centroids)
        if (size := _bytes_of(template)) > _MOST_BYTES:
            raise InputError(f"{path} describes {size} bytes of weights; {_MOST_BYTES} are allowed at most")
        # Models of earlier versions have no checksum of the weights.
        arrays = restore_arrays(directory / weights, template, _REMEDY, description.get("weights_sha256"))
        transform = arrays.get("transform")
        model = SavedModel(
            config=config,
            clustering=clustering,
            features=features,
            feature_mean=_vector(description["feature_mean"], features.dimensions, f"{path}: feature_mean"),
            feature_std=_vector(description["feature_std"], features.dimensions, f"{path}: feature_std"),
            label_mean=_by_attribute(description["label_mean"], config, f"{path}: label_mean"),
            label_std=_by_attribute(description["label_std"], config, f"{path}: label_std"),
            variables=arrays["variables"],
            transform=None if transform is None else EmbeddingTransform(**transform),
            centroids=arrays.get("centroids"),
            origin=origin,
            # Models of earlier versions have no such entry.
            audio=from_dict(AudioConfig, description.get("audio", {}), f"{path}: audio"),
            inputs=inputs,
        )
        if (least := model.feature_std.min()) <= 0:
            raise InputError(f"{path}: feature_std holds {least}, expected numbers above 0; write the model anew")
        beyond = (np.abs(model.label_mean) > LABEL.highest).any() or (model.label_std <= 0).any()
        if np.isfinite(model.label_mean).all() != model.knows_labels or beyond:
            raise InputError(f"{path}: label_mean and label_std are not means and deviations; write the model anew")
        return model
    except KeyError as error:
        raise InputError(f"{path} has no entry {error}; write the model anew") from None


def _read_description(path: Path) -> dict[str, Any]:
    """A model's description; its entries are not checked."""
    folder, remedy = path.parent, "give what training or import wrote"
    missing = f"{folder} is not a model directory: it has no {path.name}; {remedy}"
    if not folder.exists():
        missing = f"there is no model directory {folder}; {remedy}"
    if not path.exists() and exported_description(folder):
        missing = (
            f"{folder} is an export, and its {EXPORT_CARD} tells how to run it; here, give the model directory that it "
            "was made from"
        )
    return read_sealed(path, _REMEDY, versions=[FORMAT_VERSION], renewal="write the model anew", missing=missing)


def exported_description(folder: Path) -> dict[str, Any]:
    """The description in an export, whose entries are not checked; empty if the folder is not one."""
    try:
        values = read_json(folder / EXPORT_CONFIG, "")
    except (FileNotFoundError, InputError):
        return {}
    return values if isinstance(values, dict) and "weights_sha256" in values else {}


def may_take_model(directory: Path) -> bool:
    """Whether a folder is missing, empty, or holds only what a writer of models that was killed left in it."""
    there = [path.name for path in directory.iterdir()] if directory.is_dir() else []
    return all(name.startswith(("weights-", ".")) for name in there)


def _check_files(directory: Path) -> None:
    """Refuses links out of the directory, and pipes, which would block: a model may come from a stranger."""
    root = os.path.realpath(directory)
    # `rglob` does not follow links to folders; targets inside are visited anyway.
    for path in directory.rglob("*"):
        if path.is_symlink() and not Path(os.path.realpath(path)).is_relative_to(root):
            raise InputError(f"{path} is a link out of the model directory; put a copy of the file there")
        if not path.is_file() and not path.is_dir():
            raise InputError(f"{path} is not a plain file; remove it, or get the model directory anew")


def model_folder(directory: Path) -> Path:
    """`directory` itself, or the model directory inside if it is a work directory of training."""
    inside = directory / MODEL
    return inside if (inside / _DESCRIPTION).exists() and not (directory / _DESCRIPTION).exists() else directory


def save_arrays(directory: Path, arrays: Any) -> None:
    """Writes a tree of NumPy arrays and their checksums; the folder is replaced whole or not at all."""
    temporary = directory.with_name(f".{directory.name}.partial")
    check_room(directory.parent, _METADATA_BYTES + sum(leaf.nbytes for leaf in jax.tree.leaves(arrays)))
    with _checkpointer() as checkpointer:
        checkpointer.save(temporary.absolute(), arrays, force=True)
    write_checksums(temporary)
    if directory.exists():
        shutil.rmtree(directory)
    temporary.rename(directory)


def restore_arrays(directory: Path, template: Any, remedy: str, sha256: str | None = None) -> Any:
    """Reads a tree of NumPy arrays that `save_arrays` wrote.

    Raises InputError, with the `remedy`, if the folder is damaged or holds other arrays than the template's
    `jax.ShapeDtypeStruct`s. `sha256` is of its list of checksums; None if it is not known.
    """
    check_utf8(directory)
    most = _METADATA_BYTES + 2 * _bytes_of(template)
    found = sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())
    if found > most:
        raise InputError(f"{directory} is damaged or of another kind: {found} bytes, expected {most} at most; {remedy}")
    check_checksums(directory, remedy, sha256)
    with _checkpointer() as checkpointer:
        try:
            # Shapes are compared before anything is read, so that a stranger's file cannot make this allocate more.
            stored = checkpointer.metadata(directory.absolute()).item_metadata.tree
        except Exception as error:
            raise InputError(f"{directory} is not a readable checkpoint ({first_line(error)}); {remedy}") from None
        expected, found = _shapes(template), _shapes(stored)
        for name in sorted(expected.keys() | found.keys()):
            if expected.get(name) != found.get(name):
                raise InputError(
                    f"{directory} does not fit: {name} is {found.get(name, 'missing')}, expected "
                    f"{expected.get(name, 'no such array')}; use the settings that it was written with, or {remedy}"
                )
        # Parts that claim to be larger than their array would be allocated.
        for name, leaf in _named_leaves(stored):
            parts = leaf.storage.chunk_shape if leaf.storage is not None else leaf.shape
            if any(part > max(length, 1) for part, length in zip(parts, leaf.shape, strict=True)):
                raise InputError(f"{directory} is damaged: {name} of shape {leaf.shape} is stored in parts of {parts}")
        empty = jax.tree.map(lambda leaf: np.empty(leaf.shape, leaf.dtype), template)
        try:
            return checkpointer.restore(directory.absolute(), empty)
        except Exception as error:
            raise InputError(f"{directory} is damaged ({first_line(error)}); {remedy}") from None


def clustering_shapes(config: ModelConfig, clustering: ClusteringConfig) -> tuple[EmbeddingTransform | None, Any]:
    """The principal components, if any, and the centroids of such a clustering, as `jax.ShapeDtypeStruct`s."""
    shape: Any = partial(jax.ShapeDtypeStruct, dtype=np.float32)
    width, components = scaled_width(DENSE_WIDTH, config), clustering.pca_components
    if components is None:
        return None, shape((config.clusters, width))
    return EmbeddingTransform(shape((width,)), shape((width, components))), shape((config.clusters, components))


def _checkpointer() -> ocp.StandardCheckpointer:
    """One that does not wait for other processes."""
    alone = jax.process_index()
    options = ocp.options.MultiprocessingOptions(primary_host=alone, active_processes={alone})
    return ocp.StandardCheckpointer(multiprocessing_options=options)


def _array_template(
    config: ModelConfig, clustering: ClusteringConfig, features: Features, inputs: FurtherInputs, has_centroids: bool
) -> dict[str, Any]:
    """The arrays of a model with these settings, as `jax.ShapeDtypeStruct`s."""
    template: dict[str, Any] = {"variables": variables_of(config, features, inputs)}
    if has_centroids:
        fitted, template["centroids"] = clustering_shapes(config, clustering)
        if fitted is not None:
            template["transform"] = fitted._asdict()
    return template


def _bytes_of(template: Any) -> int:
    return sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(template))


def _shapes(tree: Any) -> dict[str, str]:
    return {name: f"{np.dtype(leaf.dtype).name}{list(leaf.shape)}" for name, leaf in _named_leaves(tree)}


def _named_leaves(tree: Any) -> list[tuple[str, Any]]:
    leaves = jax.tree_util.tree_flatten_with_path(tree, is_leaf=lambda leaf: hasattr(leaf, "shape"))[0]
    return [(jax.tree_util.keystr(path), leaf) for path, leaf in leaves]


def _vector(values: Any, length: int, where: str) -> Float[np.ndarray, " n"]:
    try:
        if any(type(value) not in (int, float) for value in values):  # NumPy would take "1_000" for one
            raise TypeError
        with np.errstate(over="ignore"):  # what is infinite is refused below
            vector = np.asarray(values, np.float32)
    except (TypeError, ValueError, OverflowError):
        raise InputError(f"{where} is not a list of numbers; write the model anew") from None
    if vector.shape != (length,) or not np.isfinite(vector).all():
        raise InputError(f"{where} holds {vector.size} values, expected {length} finite ones; write the model anew")
    return vector


def _by_attribute(values: Any, config: ModelConfig, where: str) -> Float[np.ndarray, " A"]:
    if not isinstance(values, dict):
        raise InputError(f"{where} is not an object of numbers by attribute; write the model anew")
    named = [values[name] for name in config.attributes]
    if all(value is None for value in named):
        return np.full(len(named), np.nan, np.float32)
    return _vector(named, len(named), where)


def first_line(error: Exception) -> str:
    """What another library says is wrong, for a message."""
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]
