"""A split that lies on the devices as a whole."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import numpy as np
from jaxtyping import Array, Float, Float16, Int

from emocluster_jax.feed.split import Spans, Split, labels_of_all
from emocluster_jax.runtime import parallel


@dataclass(frozen=True)
class ResidentSplit(Split):
    """A split whose chunks were put on the devices once.

    Attributes:
      chunks: (local devices, recordings a device, C, time, mel) float16; recordings past the last are padding.
      attributes: as of every split.
    """

    chunks: Float16[Array, "devices utterances chunks time mel"]
    attributes: Float[np.ndarray, "all_utterances attributes"]

    @property
    def chunks_per_utterance(self) -> int:
        return self.chunks.shape[2]

    def blocks(self, size: int) -> AbstractContextManager[Spans]:
        return nullcontext(self._everything)

    def draws(self, batches: Int[np.ndarray, "steps batch"]) -> AbstractContextManager[Spans]:
        return nullcontext(self._everything)

    def _everything(self, first: int, last: int) -> list[tuple[Array, int, int]]:
        return [(self.chunks, first, last)]


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
    return ResidentSplit(parallel.shard(chunks, utterances), labels_of_all(attributes, utterances))
