"""A split that lies on the devices as a whole."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Array, Float, Float16

from emocluster_jax import parallel


@dataclass(frozen=True)
class ResidentSplit:
    """The chunks of U recordings, C each, dealt out over the devices by recording.

    Attributes:
      chunks: (local devices, recordings a device, C, time, mel) float16; recordings past the last are padding.
      attributes: (U, attributes) float32, the labels of all recordings of all processes, NaN where missing.
    """

    chunks: Float16[Array, "devices utterances chunks time mel"]
    attributes: Float[np.ndarray, "all_utterances attributes"]

    @property
    def utterances(self) -> int:
        """Real recordings over all processes."""
        return len(self.attributes)

    @property
    def chunks_per_utterance(self) -> int:
        return self.chunks.shape[2]

    @property
    def chunk_count(self) -> int:
        """Real chunks over all processes."""
        return self.utterances * self.chunks_per_utterance


def place(
    chunks: Float16[np.ndarray, "rows chunks time mel"],
    attributes: Float[np.ndarray, "rows attributes"],
    utterances: int,
) -> ResidentSplit:
    """Puts a split on the devices.

    Args:
      chunks: of this process's recordings, `parallel.local_rows(utterances)` as far as they are real.
      attributes: labels of the same recordings.
      utterances: real recordings over all processes.
    """
    labels = parallel.collect(parallel.shard(attributes, utterances), utterances)
    return ResidentSplit(parallel.shard(chunks, utterances), labels)
