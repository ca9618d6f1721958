"""A model's arrays under plain names, and the hash that tells one model's from another's."""

from __future__ import annotations

import hashlib

import jax
import numpy as np

from emocluster_jax.inference.model_directory import SavedModel


def named_arrays(model: SavedModel) -> dict[str, np.ndarray]:
    """All arrays that prediction needs, e.g. "encoder.convolution_0.kernel".

    Running statistics stand beside the parameters of their layer: "encoder.norm_0" has `scale`, `bias`, `mean` and
    `var`. The centroids are "centroids", the principal components "embedding_transform.mean" and ".projection".
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
    """SHA-256 of the model's arrays with their names and shapes, in hexadecimal: the same wherever they lie."""
    digest = hashlib.sha256()
    for name, array in named_arrays(model).items():
        digest.update(f"{name} {array.shape}\n".encode())
        digest.update(array.astype("<f4").tobytes())
    return digest.hexdigest()
