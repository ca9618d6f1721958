"""The network's graph in ONNX Runtime on the CPU, as `launch.export` writes it and its model card runs it."""

from __future__ import annotations

import numpy as np
import onnxruntime

from emocluster_jax.benchmark.cases import Prepared
from emocluster_jax.benchmark.made_data import labelled_recordings
from emocluster_jax.benchmark.made_models import drawn_models
from emocluster_jax.inference.onnx_graph import to_onnx

BLOCK = 176
"""Chunks that go through the network at a time."""


def graphs(width_multiplier: float = 1.0) -> list[bytes]:
    """Those of three freshly drawn models."""
    return [to_onnx(model) for model in drawn_models(width_multiplier)]


def embedding(recordings: int, width_multiplier: float) -> Prepared:
    """Embeddings of a set that lies in memory."""
    session = onnxruntime.InferenceSession(graphs(width_multiplier)[0])
    data, _ = labelled_recordings(recordings, 0)
    chunks = data.reshape(-1, *data.shape[2:])

    def repeat() -> None:
        for first in range(0, len(chunks), BLOCK):
            session.run(["embeddings"], {"chunks": chunks[first : first + BLOCK].astype(np.float32)})

    repeat()
    return Prepared(repeat)
