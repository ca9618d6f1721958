"""A split that lies on the devices as a whole."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int, Shaped

from emocluster_jax.corpora.labels import LabelColumns
from emocluster_jax.feed.split import AUDIO, Held, Inputs, Spans, Split, labels_of_all
from emocluster_jax.runtime import parallel


@dataclass(frozen=True)
class ResidentSplit(Split):
    """A split that was put on the devices once.

    Attributes:
      inputs: by name, (local devices, recordings per device, ...); recordings past the last are padding.
    """

    inputs: Inputs
    labels: LabelColumns

    @property
    def chunks_per_utterance(self) -> int:
        return self.inputs[AUDIO].shape[2]

    def blocks(self, size: int) -> AbstractContextManager[Spans]:
        return nullcontext(self._everything)

    def draws(self, batches: Int[np.ndarray, "steps batch"], together: int) -> AbstractContextManager[Spans]:
        return nullcontext(self._everything)

    def _everything(self, first: int, last: int) -> list[tuple[Held, int, int]]:
        return [(Held(self.inputs), first, last)]


def place(inputs: Mapping[str, Shaped[np.ndarray, "rows ..."]], labels: LabelColumns, utterances: int) -> ResidentSplit:
    """Puts a split on the devices.

    Args:
      inputs: by name, of this process's real recordings among `parallel.local_rows(utterances)`.
      labels: of the same recordings.
      utterances: real recordings over all processes.
    """
    dealt = {name: parallel.shard(rows, utterances) for name, rows in inputs.items()}
    return ResidentSplit(dealt, labels_of_all(labels, utterances))
