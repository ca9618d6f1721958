"""A split that stays in its records and passes over the devices as it is needed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import grain
import jax
import numpy as np
from jaxtyping import Int, Shaped

from emocluster_jax.corpora.labels import LabelColumns
from emocluster_jax.feed.split import AUDIO, Inputs, Spans, Split, block_starts, masked
from emocluster_jax.records.chunk_source import ChunkSource
from emocluster_jax.runtime import parallel
from emocluster_jax.runtime.host import usable_cores

_ROWS = 128
"""Chunks that one thread reads at a time, or more: a recording that gives several of them is read once for all."""
_MOST_THREADS = 16


@dataclass(frozen=True)
class StreamedSplit(Split):
    """A split whose recordings are read anew for every step, ahead of it, by Grain's threads.

    The steps get the same numbers as those of a `ResidentSplit`. Any process may draw any recording, so every process
    needs all of the split's files; it reads only the rows that its own devices take.

    Attributes:
      source: the inputs of the records' split, by position.
      indices: (U,) the recordings of the split that are used, as positions.
    """

    source: ChunkSource
    indices: Int[np.ndarray, " all_utterances"]
    labels: LabelColumns

    @property
    def chunks_per_utterance(self) -> int:
        return self.source.shape[0]

    def blocks(self, size: int) -> AbstractContextManager[Spans]:
        count, each = self.utterances_per_device, self.chunks_per_utterance
        starts = block_starts(np.arange(-(-count // size)), size, count)
        device_starts = parallel.local_rows(self.utterances).start + count * np.arange(jax.local_device_count())
        recordings = starts[:, None, None] + device_starts[:, None] + np.arange(size)
        rows = recordings[..., None] * each + np.arange(each)
        return self._stream(rows.reshape(*recordings.shape[:2], -1), each)

    def draws(self, batches: Int[np.ndarray, "steps batch"], together: int) -> AbstractContextManager[Spans]:
        steps, batch = batches.shape
        own = parallel.local_rows(batch)
        rows = batches[:, own.start : own.stop].reshape(steps, jax.local_device_count(), -1)
        return self._stream(rows, together)

    @contextmanager
    def _stream(self, rows: Int[np.ndarray, "steps devices rows"], together: int) -> Iterator[Spans]:
        """Gives, step by step, the inputs of these global chunk numbers; zeros for the padding after the last."""
        at_once = max(1, _ROWS // rows[0].size)
        threads = min(usable_cores(), _MOST_THREADS)
        elements = (
            grain.MapDataset.source([rows[i : i + at_once] for i in range(0, len(rows), at_once)])
            .map(partial(self._read, together=together))
            .to_iter_dataset(grain.ReadOptions(num_threads=threads, prefetch_buffer_size=2 * threads))
        )
        with closing(iter(elements)) as reads:
            steps = (jax.tree.map(parallel.deal, step) for read in reads for step in read)
            # One step ahead of the one that computes, so that its way to the devices costs no time either.
            upcoming = next(steps)

            def spans(first: int, last: int) -> Iterator[tuple[Inputs, int, int]]:
                nonlocal upcoming
                if first == last:
                    yield upcoming, first, last
                for step in range(first, last):
                    yield upcoming, step, step + 1
                    upcoming = next(steps, upcoming)

            yield spans

    def _read(
        self, rows: Int[np.ndarray, "steps devices rows"], together: int
    ) -> list[dict[str, Shaped[np.ndarray, "devices recordings ..."]]]:
        """The inputs of these chunk numbers, step by step; every recording is read once, in the order of the files."""
        numbers, count = rows.reshape(-1), rows.size // together
        chunks = np.zeros((numbers.size, *self.source.shape[1:]), np.float16)
        vectors = {name: np.full((count, length), np.nan, np.float32) for name, length in self.source.inputs}
        order = np.argsort(numbers, kind="stable")
        order = order[numbers[order] < self.chunk_count]
        recordings, firsts = np.unique(numbers[order] // self.chunks_per_utterance, return_index=True)
        for recording, (first, last) in zip(recordings, pairwise([*firsts, len(order)]), strict=True):
            places = order[first:last]
            held = self.source.read(int(self.indices[recording]))
            chunks[places] = held.chunks[numbers[places] % self.chunks_per_utterance]
            for name, vector in held.vectors.items():
                vectors[name][places // together] = vector
        inputs = {AUDIO: chunks.reshape(-1, together, *chunks.shape[1:])} | masked(vectors)
        steps, devices, size = rows.shape
        dealt = {name: held.reshape(steps, devices, size // together, *held.shape[1:]) for name, held in inputs.items()}
        return [{name: held[step] for name, held in dealt.items()} for step in range(steps)]
