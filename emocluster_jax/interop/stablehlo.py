"""A model as a StableHLO program, which JAX and other readers of StableHLO run without this project."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import export
from jaxtyping import Array, Float, Num

from emocluster_jax.feed.split import AUDIO
from emocluster_jax.inference.forward import chunk_outputs
from emocluster_jax.inference.model_directory import SavedModel
from emocluster_jax.models.registry import trains_on_recordings

PLATFORMS = ("cpu", "cuda", "tpu")


def to_stablehlo(model: SavedModel) -> bytes:
    """The serialised program with its weights; `jax.export.deserialize` reads it.

    It takes normalised chunks (n, frames, mel) float32, for any n (models with a temporal network: those of whole
    recordings), and returns a dictionary: attributes (n, A) in label units, embeddings (n, E) and, for models with
    clusters, clusters (n,) int32.
    """

    # Without a temporal network any number of chunks will do.
    each = model.features.chunks_per_utterance if trains_on_recordings(model.config) else 1
    # As JAX arrays they become constants of the program.
    variables, transform, centroids = jax.tree.map(jnp.asarray, (model.variables, model.transform, model.centroids))

    def program(chunks: Float[Array, "n frames mel"]) -> dict[str, Any]:
        inputs = {AUDIO: chunks.reshape(-1, each, *chunks.shape[1:])}
        outputs = chunk_outputs(model.config, model.clustering, variables, transform, centroids, inputs)
        found = {
            "attributes": outputs.attributes * model.label_std + model.label_mean,
            "embeddings": outputs.embeddings,
        }
        return found if outputs.clusters is None else {**found, "clusters": outputs.clusters}

    (n,) = export.symbolic_shape("n" if each == 1 else f"{each}*n")
    chunks = jax.ShapeDtypeStruct((n, model.features.chunk_frames, model.features.dimensions), np.float32)
    return bytes(export.export(jax.jit(program), platforms=PLATFORMS)(chunks).serialize())


def run_stablehlo(program: bytes, chunks: Float[np.ndarray, "n frames mel"]) -> dict[str, Num[np.ndarray, "n ..."]]:
    """The outputs of a program from `to_stablehlo` for chunks."""
    outputs: Any = export.deserialize(bytearray(program)).call(chunks)
    return {name: np.asarray(value) for name, value in outputs.items()}
