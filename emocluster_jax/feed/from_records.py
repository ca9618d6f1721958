"""From prepared records to splits: each process reads its own share, onto the devices or, step by step, streamed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import jax
import numpy as np
from jaxtyping import Int

from emocluster_jax.config import Features
from emocluster_jax.console import Console
from emocluster_jax.corpora.inputs import InputSizes
from emocluster_jax.errors import InputError
from emocluster_jax.feed.split import AUDIO, Feed, Split, labels_of_all, masked, place
from emocluster_jax.feed.streamed import StreamedSplit
from emocluster_jax.records.chunk_source import ChunkSource
from emocluster_jax.records.reader import PreparedData
from emocluster_jax.runtime import parallel
from emocluster_jax.runtime.host import available_bytes

RESIDENT_SHARE = 0.4
"""Of the free memory, what chunks may take. The rest is for the activations of a step, for the embeddings (a sixteenth
of the chunks' size, which K-means works beside) and for the host's second copy of the chunks while they are placed."""

_GB = 1e9
# The pool's order is drawn once and for all, so that every run's 15,000 recordings are part of another's 40,000.
_POOL_SEED = 2021


def resolve_feed(
    feed: Literal["auto", "resident", "streamed"], recordings: Sequence[int], features: Features, console: Console
) -> Feed:
    """Where the chunks of these splits are to be, the same on every process; prints the choice in one line.

    Args:
      feed: what the user wants; "auto" decides by the free memory.
      recordings: of each split that is used, over all processes.
      features: how many chunks a recording has, and how large they are.
      console: prints it.

    Raises:
      InputError: there is no such feed, or the processes of the run want different ones.
    """
    if feed not in (*get_args(Feed), "auto"):
        raise InputError(f"`feed` is {feed}; expected auto, resident or streamed")
    # Devices and hosts may differ; the programs must not.
    if not parallel.same_everywhere(feed):
        raise InputError(f"`feed` is {feed} on this process and not on all others; give all the same")
    needed = chunk_bytes(recordings, features)
    if feed != "auto":
        console.line(f"Chunks: {needed / _GB:.2f} GB, {feed}, as `feed` says")
        return feed
    free = parallel.smallest(free_bytes())
    chosen = "resident" if fits(needed, free) else "streamed"
    where = "resident on the devices" if chosen == "resident" else "streamed from the records"
    console.line(f"Chunks: {needed / _GB:.2f} GB, {where} ({free / _GB:.1f} GB of memory are free; see `feed`)")
    return chosen


def chunk_bytes(recordings: Sequence[int], features: Features) -> int:
    """Size of the float16 chunks of these splits that the devices of one process hold, padding included."""
    rows = sum(len(parallel.local_rows(count)) for count in recordings)
    return 2 * rows * features.chunks_per_utterance * features.chunk_frames * features.dimensions


def fits(needed: float, free: float) -> bool:
    """Whether chunks of so many bytes may be put into memory of which so many bytes are free."""
    return needed <= RESIDENT_SHARE * free


def free_bytes() -> int:
    """What is free for this process's chunks: on its devices, and on the host that they come through."""
    host = available_bytes()
    devices = [device.memory_stats() for device in jax.local_devices()]
    # Equal shares: the device with the least sets the limit. A CPU's device has no memory of its own, nor statistics.
    free = [stats["bytes_limit"] - stats["bytes_in_use"] for stats in devices if stats and "bytes_limit" in stats]
    return min(host, len(devices) * min(free)) if free else host


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
      feed: of `resolve_feed`.
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
