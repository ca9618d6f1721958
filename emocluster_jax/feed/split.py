"""What training and evaluation ask of a split, wherever its chunks lie."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from typing import TypeVar

import jax
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Float16, Int

from emocluster_jax.runtime import parallel

Spans = Callable[[int, int], Iterable[tuple[Float16[Array, "devices ..."], int, int]]]
"""(first, last) -> the chunks on the devices for the steps from `first` up to, but not including, `last`, each time
with the steps that they serve. Asked for one range after the other, from step 0 on; an empty range gives chunks, too,
so that a program can be compiled with them."""

Indices = TypeVar("Indices", Array, np.ndarray)


class Split(ABC):
    """The chunks of U recordings, C each, dealt out over the devices by recording.

    Attributes:
      attributes: (U, attributes) float32, the labels of all recordings of all processes, NaN where missing.
    """

    attributes: Float[np.ndarray, "all_utterances attributes"]

    @property
    @abstractmethod
    def chunks_per_utterance(self) -> int: ...

    @property
    def utterances(self) -> int:
        """Real recordings over all processes."""
        return len(self.attributes)

    @property
    def utterances_per_device(self) -> int:
        """Recordings that every device has, the padding included."""
        return parallel.padded_length(self.utterances) // jax.device_count()

    @property
    def chunk_count(self) -> int:
        """Real chunks over all processes."""
        return self.utterances * self.chunks_per_utterance

    @abstractmethod
    def blocks(self, size: int) -> AbstractContextManager[Spans]:
        """The chunks for steps that go through every device's own in order, `size` a step; see `block_rows`."""

    @abstractmethod
    def draws(self, batches: Int[np.ndarray, "steps batch"]) -> AbstractContextManager[Spans]:
        """The chunks for steps over batches of global chunk numbers; see `drawn_rows`."""


def block_starts(blocks: Indices, size: int, count: int) -> Indices:
    """The first chunk of each of these blocks of a device's chunks; the last block starts early enough to be full.

    Args:
      blocks: numbers of the blocks.
      size: chunks a block, at most `count`.
      count: chunks that the device has.
    """
    return (blocks * size).clip(max=count - size)


def block_rows(chunks: Float16[Array, "*held time mel"], start: Array, size: int) -> Float16[Array, "{size} time mel"]:
    """One device's block from what `Split.blocks` gave, inside a program.

    Args:
      chunks: all of the device's recordings, (utterances, C, time, mel), or the very block, (size, time, mel).
      start: of `block_starts`.
      size: chunks a block.
    """
    if chunks.ndim == 3:
        return chunks
    return lax.dynamic_slice_in_dim(chunks.reshape(-1, *chunks.shape[2:]), start, size)


def drawn_rows(chunks: Float16[Array, "*held time mel"], batch: Int[Array, " batch"]) -> Float16[Array, "b time mel"]:
    """One device's equal share of a batch from what `Split.draws` gave, inside a mapped function.

    Args:
      chunks: all of the device's recordings, (utterances, C, time, mel), or the very share, (b, time, mel).
      batch: global chunk numbers of the whole batch.
    """
    if chunks.ndim == 3:
        return chunks
    return parallel.gather_rows(chunks.reshape(-1, *chunks.shape[2:]), batch)


def labels_of_all(
    attributes: Float[np.ndarray, "rows attributes"], utterances: int
) -> Float[np.ndarray, "all_utterances attributes"]:
    """The labels of all recordings, from those of this process's share of them."""
    return parallel.collect(parallel.shard(attributes, utterances), utterances)
