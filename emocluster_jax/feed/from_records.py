"""From prepared records to splits: each process reads its own share, onto the devices at once or for each step anew."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Literal, get_args

import grain
import jax
import numpy as np
from jaxtyping import Int, Shaped

from emocluster_jax.config import Features
from emocluster_jax.console import Console
from emocluster_jax.corpora.inputs import FurtherInputs
from emocluster_jax.corpora.labels import LabelColumns
from emocluster_jax.errors import InputError
from emocluster_jax.feed.split import AUDIO, Feed, Inputs, Split, block_starts, known_of_all, masked, place
from emocluster_jax.preprocessing.chunks import chunk_step
from emocluster_jax.records.reader import ChunkSource, Descriptions, PreparedData
from emocluster_jax.runtime import parallel
from emocluster_jax.runtime.device_memory import DeviceMemory, device_memory
from emocluster_jax.runtime.host import available_bytes, usable_cores

RESIDENT_SHARE = 0.4
"""Of the free memory, what chunks may take. The rest is for the activations of a step, for the embeddings (a sixteenth
of the chunks' size, which K-means works beside) and for the host's second copy of the chunks while they are placed."""

_GB = 1e9
_ROWS = 128
"""Chunks that one thread reads at a time, or more: a recording that gives several of them is read once for all."""
_MOST_THREADS = 16
# The pool's order is drawn once and for all, so that every run's 15,000 recordings are part of another's 40,000.
_POOL_SEED = 2021


def resolve_feed(
    feed: Feed | Literal["auto"],
    recordings: Sequence[int],
    features: Features,
    console: Console,
    inputs: FurtherInputs = (),
) -> Feed:
    """Where the chunks of these splits are to be, the same on every process; prints the choice in one line.

    "auto" decides by the free memory. `recordings` are those of each split that is used, over all processes, and
    `inputs` the further inputs that are read.

    Raises:
      InputError: there is no such feed, or the processes of the run want different ones.
    """
    if feed not in (*get_args(Feed), "auto"):
        raise InputError(f"`feed` is {feed}; expected auto, resident or streamed")
    # Devices and hosts may differ; the programs must not.
    if not parallel.same_everywhere(feed):
        raise InputError(f"`feed` is {feed} on this process and not on all others; give all the same")
    needed = chunk_bytes(recordings, features, inputs)
    if feed != "auto":
        console.line(f"Chunks: {_size(needed)}, {feed}, as `feed` says")
        return feed
    memory = device_memory()
    free = parallel.smallest(free_bytes(memory))
    chosen = "resident" if fits(needed, free) else "streamed"
    where = "resident on the devices" if chosen == "resident" else "streamed from the records"
    if memory is None or memory.told:
        console.line(f"Chunks: {_size(needed)}, {where} ({free / _GB:.1f} GB of memory are free; see `feed`)")
    else:
        console.line(
            f"Chunks: {_size(needed)}, {where} (the devices do not tell their memory; {free / _GB:.1f} GB are assumed; "
            "see `feed`)"
        )
    return chosen


def _size(count: int) -> str:
    return f"{count / _GB:.2f} GB" if count >= 0.1 * _GB else f"{count / 1e6:.1f} MB"


def chunk_bytes(recordings: Sequence[int], features: Features, inputs: FurtherInputs = ()) -> int:
    """Size of the inputs of these splits that the devices of one process hold, padding included: float16 chunks of the
    sound, and further ones in float32."""
    rows = sum(len(parallel.local_rows(count)) for count in recordings)
    audio = 2 * features.chunks_per_utterance * features.chunk_frames * features.dimensions
    return rows * (audio + sum(4 * math.prod(given.shape(features)) for given in inputs))


def fits(needed: float, free: float) -> bool:
    """Whether chunks of so many bytes may be put into memory of which so many bytes are free."""
    return needed <= RESIDENT_SHARE * free


def free_bytes(memory: DeviceMemory | None) -> int:
    """What is free for this process's chunks: on its devices, and on the host that they come through."""
    host = available_bytes()
    # Equal shares: the device with the least sets the limit.
    return host if memory is None else min(host, jax.local_device_count() * memory.free)


def load_split(
    data: PreparedData,
    split: str,
    console: Console,
    indices: Int[np.ndarray, " n"] | None = None,
    feed: Feed = "resident",
    inputs: FurtherInputs = (),
) -> Split:
    """Opens a split, or its recordings at these indices, with further inputs that the network is given.

    By `feed` (of `resolve_feed`) the inputs are put on the devices, or read whenever they are needed.

    Raises:
      InputError: there is no such split or fold, or a damaged file.
    """
    if indices is None:
        indices = np.arange(len(data.locate(split).positions))
    rows = parallel.local_rows(len(indices))
    own = indices[rows.start : rows.stop]
    with console.task(f"reading {split} records", len(own), "recordings") as task:
        if feed == "resident":
            with parallel.all_or_none():
                arrays = data.read(split, own, task.advance, inputs)
            steps = _chunk_steps(arrays, data.preparation.features)
            return place({AUDIO: arrays.chunks} | masked(arrays.inputs), arrays.labels, len(indices), steps)
        with parallel.all_or_none():
            known = data.describe(split, own, task.advance)
            source = ChunkSource(data, split, inputs)
        steps = _chunk_steps(known, data.preparation.features)
        return StreamedSplit(source, indices, *known_of_all(known.labels, steps, len(indices)))


def _chunk_steps(known: Descriptions, features: Features) -> Int[np.ndarray, " recordings"]:
    """Frames from the start of one chunk to the start of the next, by recording."""
    lengths = np.rint(np.asarray(known.durations_s, np.float64) * features.source_rate).astype(int)
    return np.array([chunk_step(length, features) for length in lengths.tolist()], np.int32)


def pool_prefix(pool_size: int, wanted: int | None) -> Int[np.ndarray, " n"]:
    """The recordings of the unlabelled pool that a run uses, sorted: a prefix of one seeded permutation of the pool.

    If `wanted` is None, or more than the pool has, these are all.
    """
    order = np.random.default_rng(_POOL_SEED).permutation(pool_size)
    return np.sort(order[:wanted])


@dataclass(frozen=True)
class StreamedSplit(Split):
    """A split whose recordings are read anew for every step, ahead of it, by Grain's threads.

    The steps get the same numbers as those of a `ResidentSplit`. Any process may draw any recording, so every process
    needs all of the split's files; it reads only the rows that its own devices take.
    """

    source: ChunkSource
    indices: Int[np.ndarray, " all_utterances"]  # positions in the source
    labels: LabelColumns
    chunk_steps: Int[np.ndarray, " all_utterances"] | None

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.source.shape

    def blocks(self, size: int) -> AbstractContextManager[Iterator[Inputs]]:
        count, each = self.utterances_per_device, self.chunks_per_utterance
        local = block_starts(size, count)[:, None, None] + np.arange(size)
        device_starts = parallel.local_rows(self.utterances).start + count * np.arange(jax.local_device_count())
        recordings = np.where(local < count, local + device_starts[:, None], self.utterances)
        rows = recordings[..., None] * each + np.arange(each)
        return self._stream(rows.reshape(*recordings.shape[:2], -1), each)

    def draws(self, batches: Int[np.ndarray, "steps batch"], together: int) -> AbstractContextManager[Iterator[Inputs]]:
        return self._stream(parallel.own_shares(batches), together)

    @contextmanager
    def _stream(self, rows: Int[np.ndarray, "steps devices rows"], together: int) -> Iterator[Iterator[Inputs]]:
        """Gives, step by step, the inputs of these global chunk numbers; zeros for the padding after the last."""
        at_once = max(1, _ROWS // rows[0].size)
        threads = min(usable_cores(), _MOST_THREADS)
        elements = (
            grain.MapDataset.source([rows[i : i + at_once] for i in range(0, len(rows), at_once)])
            .map(partial(self._read, together=together))
            .to_iter_dataset(grain.ReadOptions(num_threads=threads, prefetch_buffer_size=2 * threads))
        )
        with closing(iter(elements)) as reads:
            yield (jax.tree.map(parallel.deal, step) for read in reads for step in read)

    def _read(
        self, rows: Int[np.ndarray, "steps devices rows"], together: int
    ) -> list[dict[str, Shaped[np.ndarray, "devices recordings ..."]]]:
        """The inputs of these chunk numbers, step by step; every recording is read once, in the order of the files."""
        numbers, count = rows.reshape(-1), rows.size // together
        arrays: dict[str, np.ndarray] = {AUDIO: np.zeros((numbers.size, *self.source.shape[1:]), np.float16)}
        for name, shape in self.source.input_shapes.items():
            in_chunks = len(shape) == 3
            arrays[name] = np.full((numbers.size, *shape[1:]) if in_chunks else (count, *shape), np.nan, np.float32)
        order = np.argsort(numbers, kind="stable")
        order = order[numbers[order] < self.chunk_count]
        recordings, firsts = np.unique(numbers[order] // self.chunks_per_utterance, return_index=True)
        for recording, (first, last) in zip(recordings, pairwise([*firsts, len(order)]), strict=True):
            places = order[first:last]
            held = self.source.read(int(self.indices[recording]))
            for name, array in {AUDIO: held.chunks, **held.inputs}.items():
                if array.ndim == 3:
                    arrays[name][places] = array[numbers[places] % self.chunks_per_utterance]
                else:
                    arrays[name][places // together] = array
        by_recording = {
            name: held.reshape(count, -1, *held.shape[1:]) if held.ndim == 3 else held for name, held in arrays.items()
        }
        inputs = {AUDIO: by_recording.pop(AUDIO)} | masked(by_recording)
        steps, devices, size = rows.shape
        dealt = {name: held.reshape(steps, devices, size // together, *held.shape[1:]) for name, held in inputs.items()}
        return [{name: held[step] for name, held in dealt.items()} for step in range(steps)]
