"""From prepared records to splits on the devices: each process reads its own share."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from jaxtyping import Int

from emocluster_jax import parallel
from emocluster_jax.feed.resident import ResidentSplit, place
from emocluster_jax.records.preparation import Preparation
from emocluster_jax.records.reader import read_split, split_size
from emocluster_jax.reporting.console import Console

# The pool's order is drawn once and for all, so that every run's 15,000 recordings are part of another's 40,000.
_POOL_SEED = 2021


def load_split(
    data_dir: Path, preparation: Preparation, split: str, console: Console, indices: Int[np.ndarray, " n"] | None = None
) -> ResidentSplit:
    """Reads this process's share of a split and puts it on its devices.

    Args:
      data_dir: prepared records.
      preparation: what `data_dir` says of itself.
      split: one of `config.SPLITS`.
      console: shows how far it is.
      indices: the recordings of the split to use; None uses all.

    Raises:
      InputError: there is no such split, or a damaged file.
    """
    if indices is None:
        indices = np.arange(split_size(preparation, data_dir, split))
    rows = parallel.local_rows(len(indices))
    own = indices[rows.start : rows.stop]
    with console.task(f"reading {split} records", len(own)) as task:
        arrays = read_split(data_dir, split, own, task.advance)
    return place(arrays.chunks, arrays.attributes, len(indices))


def pool_prefix(pool_size: int, wanted: int | None) -> Int[np.ndarray, " n"]:
    """The recordings of the unlabelled pool that a run uses, sorted: a prefix of one seeded permutation of the pool.

    Args:
      pool_size: recordings in the pool.
      wanted: how many to use; None, or more than there are, uses all.
    """
    order = np.random.default_rng(_POOL_SEED).permutation(pool_size)
    return np.sort(order[:wanted])
