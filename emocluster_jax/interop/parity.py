"""Checks that an exported program computes what its model computes."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float

from emocluster_jax.inference.model_directory import SavedModel
from emocluster_jax.inference.predictor import Predictor

TOLERANCE = 1e-4
"""Relative to an output's largest number, or absolute if that is below 1. Exported programs add the same float32
products in another order, which makes about 1e-6 on CPUs, and ten times more with GPUs' fast convolutions. A wrong
layer makes far more."""


class ParityError(Exception):
    """An exported program computes something else than its model: a defect. The result must not be published."""


def example_chunks(model: SavedModel) -> Float[np.ndarray, "n frames mel"]:
    """Chunks of one recording, drawn with a fixed seed: noise of different loudness and colour, clipped as features."""
    features = model.features
    count, random = features.chunks_per_utterance, np.random.default_rng(0)
    noise = random.normal(size=(count, features.chunk_frames, features.dimensions))
    loudness = random.uniform(0.1, 1.5, (count, 1, 1))
    colour = random.normal(size=(count, 1, features.dimensions)) + random.normal(size=(count, 1, 1))
    return (loudness * noise + colour).clip(-features.clip, features.clip).astype(np.float32)


def check_parity(
    what: str, outputs: Mapping[str, np.ndarray], model: SavedModel, chunks: Float[np.ndarray, "n frames mel"]
) -> dict[str, float]:
    """The largest difference of each output of an exported program from that of `Predictor`.

    Args:
      what: the format, for the message.
      outputs: of the exported program: attributes, embeddings and, if the model has them, clusters.
      model: the model that was exported.
      chunks: one recording's, which `outputs` are for.

    Raises:
      ParityError: an output is missing, of another shape, or differs by more than `TOLERANCE`; clusters must be equal.
    """
    prediction = Predictor(model).predict_chunks(chunks)[0]
    expected = {"attributes": prediction.chunk_attributes, "embeddings": prediction.chunk_embeddings}
    if prediction.chunk_clusters is not None:
        expected["clusters"] = prediction.chunk_clusters
    found, wanted = ({name: value.shape for name, value in values.items()} for values in (outputs, expected))
    if found != wanted:
        raise ParityError(f"{what}: the outputs are {found}, the model's {wanted}")
    differences = {}
    for name, own in expected.items():
        difference = float(np.abs(outputs[name].astype(np.float64) - own).max())
        allowed = 0.0 if name == "clusters" else TOLERANCE * max(1.0, float(np.abs(own).max()))
        if not difference <= allowed:
            raise ParityError(f"{what}: {name} differ from the model's by {difference:.3g}, allowed are {allowed:.3g}")
        differences[name] = difference
    return differences
