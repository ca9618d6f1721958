"""From prepared records to splits: each process reads its own share."""

from __future__ import annotations

import numpy as np
from jaxtyping import Int

from emocluster_jax.console import Console
from emocluster_jax.corpora.inputs import InputSizes
from emocluster_jax.feed.choice import Feed
from emocluster_jax.feed.resident import place
from emocluster_jax.feed.split import AUDIO, Split, labels_of_all, masked
from emocluster_jax.feed.streamed import StreamedSplit
from emocluster_jax.records.chunk_source import ChunkSource
from emocluster_jax.records.reader import PreparedData
from emocluster_jax.runtime import parallel

# The pool's order is drawn once and for all, so that every run's 15,000 recordings are part of another's 40,000.
_POOL_SEED = 2021


def load_split(
    data: PreparedData,
    split: str,
    console: Console,
    indices: Int[np.ndarray, " n"] | None = None,
    feed: Feed = "resident",
    inputs: InputSizes = (),
) -> Split:
    """Opens a split: its inputs are put on the devices, or read whenever they are needed.

    Args:
      data: prepared records.
      split: one of `config.SPLITS`.
      console: shows progress.
      indices: the recordings of the split to use; None uses all.
      feed: see `choice.resolve_feed`.
      inputs: further inputs that the network is given.

    Raises:
      InputError: there is no such split or fold, or a damaged file.
    """
    if indices is None:
        indices = np.arange(len(data.locate(split).positions))
    rows = parallel.local_rows(len(indices))
    own = indices[rows.start : rows.stop]
    with console.task(f"reading {split} records", len(own)) as task:
        if feed == "resident":
            with parallel.all_or_none():
                arrays = data.read(split, own, task.advance, inputs)
            return place({AUDIO: arrays.chunks} | masked(arrays.inputs), arrays.labels, len(indices))
        with parallel.all_or_none():
            labels = data.describe(split, own, task.advance).labels
            source = ChunkSource(data, split, inputs)
        return StreamedSplit(source, indices, labels_of_all(labels, len(indices)))


def pool_prefix(pool_size: int, wanted: int | None) -> Int[np.ndarray, " n"]:
    """The recordings of the unlabelled pool that a run uses, sorted: a prefix of one seeded permutation of the pool.

    If `wanted` is None, or more than the pool has, these are all.
    """
    order = np.random.default_rng(_POOL_SEED).permutation(pool_size)
    return np.sort(order[:wanted])
