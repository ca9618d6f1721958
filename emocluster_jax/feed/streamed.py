"""A split that stays in its records and passes over the devices as it is needed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass
from itertools import pairwise

import grain
import jax
import numpy as np
from jaxtyping import Array, Float, Float16, Int

from emocluster_jax.feed.split import Spans, Split, block_starts
from emocluster_jax.records.chunk_source import ChunkSource
from emocluster_jax.runtime import parallel
from emocluster_jax.runtime.cores import usable_cores

_ROWS = 128
"""Chunks that one thread reads at a time, or more: a recording that gives several of them is read once for all."""
_MOST_THREADS = 16


@dataclass(frozen=True)
class StreamedSplit(Split):
    """A split whose chunks are read for every step anew, ahead of it, by Grain's threads.

    The steps get the same numbers as those of a `ResidentSplit`. Any process may draw any recording, so every process
    needs all of the split's files; it reads those rows alone that its own devices take.

    Attributes:
      source: the chunks of the records' split, by position.
      indices: (U,) the recordings of the split that are used, as positions.
      attributes: as of every split.
    """

    source: ChunkSource
    indices: Int[np.ndarray, " all_utterances"]
    attributes: Float[np.ndarray, "all_utterances attributes"]

    @property
    def chunks_per_utterance(self) -> int:
        return self.source.shape[0]

    def blocks(self, size: int) -> AbstractContextManager[Spans]:
        count = self.utterances_per_device * self.chunks_per_utterance
        starts = block_starts(np.arange(-(-count // size)), size, count)
        first_row = parallel.local_rows(self.utterances).start * self.chunks_per_utterance
        device_starts = first_row + count * np.arange(jax.local_device_count())
        return self._stream(starts[:, None, None] + device_starts[:, None] + np.arange(size))

    def draws(self, batches: Int[np.ndarray, "steps batch"]) -> AbstractContextManager[Spans]:
        steps, batch = batches.shape
        own = parallel.local_rows(batch)
        return self._stream(batches[:, own.start : own.stop].reshape(steps, jax.local_device_count(), -1))

    @contextmanager
    def _stream(self, rows: Int[np.ndarray, "steps devices rows"]) -> Iterator[Spans]:
        """Gives, step by step, the chunks of these global numbers; zeros for the padding after the last."""
        together = max(1, _ROWS // rows[0].size)
        threads = min(usable_cores(), _MOST_THREADS)
        elements = (
            grain.MapDataset.source([rows[i : i + together] for i in range(0, len(rows), together)])
            .map(self._read)
            .to_iter_dataset(grain.ReadOptions(num_threads=threads, prefetch_buffer_size=2 * threads))
        )
        with closing(iter(elements)) as reads:
            steps = (parallel.deal(step) for read in reads for step in read)
            # One step ahead of the one that computes, so that its way to the devices costs no time either.
            upcoming = next(steps)

            def spans(first: int, last: int) -> Iterator[tuple[Array, int, int]]:
                nonlocal upcoming
                if first == last:
                    yield upcoming, first, last
                for step in range(first, last):
                    yield upcoming, step, step + 1
                    upcoming = next(steps, upcoming)

            yield spans

    def _read(self, rows: Int[np.ndarray, "steps devices rows"]) -> Float16[np.ndarray, "steps devices rows time mel"]:
        """The chunks of these numbers, every recording read once, in the order of the files."""
        numbers = rows.reshape(-1)
        chunks = np.zeros((numbers.size, *self.source.shape[1:]), np.float16)
        order = np.argsort(numbers, kind="stable")
        order = order[numbers[order] < self.chunk_count]
        recordings, firsts = np.unique(numbers[order] // self.chunks_per_utterance, return_index=True)
        for recording, (first, last) in zip(recordings, pairwise([*firsts, len(order)]), strict=True):
            places = order[first:last]
            held = self.source[int(self.indices[recording])]
            chunks[places] = held[numbers[places] % self.chunks_per_utterance]
        return chunks.reshape(*rows.shape, *chunks.shape[1:])
