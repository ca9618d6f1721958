"""A trained model on prepared records."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from emocluster_jax.inference.predictor import Prediction, Predictor
from emocluster_jax.inference.recordings import default_batch_size, in_order
from emocluster_jax.records.chunk_source import ChunkSource
from emocluster_jax.runtime.cores import usable_cores


def predict_prepared(predictor: Predictor, source: ChunkSource, positions: Sequence[int]) -> Iterator[Prediction]:
    """What the model says of the recordings at these positions, in their order; all batches have one shape."""
    size, threads = default_batch_size(), usable_cores()
    with ThreadPoolExecutor(threads, thread_name_prefix="read") as pool:
        recordings = in_order(pool, source.__getitem__, positions, ahead=size + threads)
        for start in range(0, len(positions), size):
            count = min(size, len(positions) - start)
            chunks = np.zeros((size, *source.shape), np.float32)
            for row in range(count):
                chunks[row] = next(recordings)
            yield from predictor.predict_chunks(chunks.reshape(-1, *source.shape[1:]))[:count]
