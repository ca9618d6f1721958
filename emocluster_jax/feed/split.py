"""Splits as training and evaluation see them, wherever their arrays are, and those that are on the devices."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeVar

import jax
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Float32, Int, Shaped

from emocluster_jax.corpora.labels import LabelColumns
from emocluster_jax.runtime import parallel

Feed = Literal["resident", "streamed"]

AUDIO = "audio"
"""The input that every recording has: its chunks of a mel spectrogram or of given features."""

Inputs = Mapping[str, Array]
"""Arrays by name, with a row per recording.

"audio" is chunked, (recordings, C, time, mel); a further input is one vector per recording, (recordings, dims), zeros
where it is missing, as its mask `mask_name` says: 1 where there is one, 0 where it is missing.
"""


class Held(NamedTuple):
    """A device's share of a whole split, of which a program takes the rows that it needs."""

    inputs: Inputs


Spans = Callable[[int, int], Iterable[tuple[Held | Inputs, int, int]]]
"""(first, last) -> the inputs on the devices for the steps from `first` up to, but not including, `last`, each time
with the steps that they serve: `Held`, or the very rows of one step. Asked for one range after the other, from step 0
on; an empty range gives inputs, too, so that a program can be compiled with them."""

Indices = TypeVar("Indices", Array, np.ndarray)


class Split(ABC):
    """The inputs of U recordings of C chunks each, split over the devices by recording."""

    labels: LabelColumns  # of all recordings of all processes
    chunk_steps: Int[np.ndarray, " utterances"] | None  # frames from one chunk's start to the next's, if known

    @property
    @abstractmethod
    def chunks_per_utterance(self) -> int: ...

    @property
    def utterances(self) -> int:
        """Real recordings over all processes."""
        return len(self.labels)

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
        """The inputs for steps that go through every device's recordings in order, `size` per step; see `block_of`."""

    @abstractmethod
    def draws(self, batches: Int[np.ndarray, "steps batch"], together: int) -> AbstractContextManager[Spans]:
        """The inputs for steps over batches of global chunk numbers; see `drawn`."""


def mask_name(name: str) -> str:
    """The name of the array that says which recordings have this input."""
    return f"{name}_present"


def masked(
    vectors: Mapping[str, Float[np.ndarray, "recordings dims"]],
) -> dict[str, Float32[np.ndarray, "recordings ..."]]:
    """Further inputs as networks get them: with zeros where a vector is missing (NaN), and the masks that say so."""
    arrays: dict[str, np.ndarray] = {}
    for name, rows in vectors.items():
        present = np.asarray(np.isfinite(rows).all(axis=1))
        arrays |= {name: np.where(present[:, None], rows, np.float32(0)), mask_name(name): present.astype(np.float32)}
    return arrays


def block_starts(blocks: Indices, size: int, count: int) -> Indices:
    """The first recordings of these blocks of `size` of a device's `count`; the last starts early enough to be full."""
    return (blocks * size).clip(max=count - size)


def block_of(given: Held | Inputs, start: Array, size: int) -> dict[str, Float[Array, "{size} ..."]]:
    """One device's block of `size` recordings, inside a program: of all of the device's recordings, from `start` on (of
    `block_starts`), or the very block that `Split.blocks` gave."""
    if isinstance(given, Held):
        given = {name: lax.dynamic_slice_in_dim(rows, start, size) for name, rows in given.inputs.items()}
    return _float32(given)


def drawn(given: Held | Inputs, batch: Int[Array, " batch"], together: int) -> dict[str, Float[Array, "r ..."]]:
    """One device's equal share of a batch from what `Split.draws` gave, inside a mapped function.

    Args:
      batch: global chunk numbers of the whole batch.
      together: how many of them, one after the other, are chunks of one recording in order: C for batches of whole
        recordings, 1 for batches of chunks, each of which then counts as a recording of one chunk, 2 for batches of
        chunks with the ones after them.
    """
    if isinstance(given, Held):
        each = given.inputs[AUDIO].shape[1]

        def rows(held: Array) -> Array:
            if held.ndim < 4:
                return parallel.gather_rows(held, batch[::together] // each)
            chunks = parallel.gather_rows(held.reshape(-1, *held.shape[2:]), batch)
            return chunks.reshape(-1, together, *chunks.shape[1:])

        given = {name: rows(held) for name, held in given.inputs.items()}
    return _float32(given)


class OfAll(NamedTuple):
    """What is known of all recordings of a split on every process; see `Split`."""

    labels: LabelColumns
    chunk_steps: Int[np.ndarray, " utterances"] | None


def known_of_all(labels: LabelColumns, chunk_steps: Int[np.ndarray, " own"] | None, utterances: int) -> OfAll:
    """The labels and steps of all recordings, from those of this process's share of them."""
    columns = labels.values if chunk_steps is None else np.column_stack([labels.values, chunk_steps])
    found = parallel.collect(parallel.shard(columns.astype(np.float32), utterances), utterances)
    if chunk_steps is None:
        return OfAll(LabelColumns(labels.names, found), None)
    return OfAll(LabelColumns(labels.names, found[:, :-1]), found[:, -1].astype(np.int32))


def _float32(inputs: Inputs) -> dict[str, Array]:
    return {name: rows.astype(np.float32) for name, rows in inputs.items()}


@dataclass(frozen=True)
class ResidentSplit(Split):
    """A split that was put on the devices once."""

    inputs: Inputs  # (local devices, recordings per device, ...); recordings past the last are padding
    labels: LabelColumns
    chunk_steps: Int[np.ndarray, " utterances"] | None = None

    @property
    def chunks_per_utterance(self) -> int:
        return self.inputs[AUDIO].shape[2]

    def blocks(self, size: int) -> AbstractContextManager[Spans]:
        return nullcontext(self._everything)

    def draws(self, batches: Int[np.ndarray, "steps batch"], together: int) -> AbstractContextManager[Spans]:
        return nullcontext(self._everything)

    def _everything(self, first: int, last: int) -> list[tuple[Held, int, int]]:
        return [(Held(self.inputs), first, last)]


def place(
    inputs: Mapping[str, Shaped[np.ndarray, "rows ..."]],
    labels: LabelColumns,
    utterances: int,
    chunk_steps: Int[np.ndarray, " rows"] | None = None,
) -> ResidentSplit:
    """Puts a split of so many real recordings, over all processes, on the devices.

    `inputs`, `labels` and `chunk_steps` are those of this process's real recordings among
    `parallel.local_rows(utterances)`.
    """
    dealt = {name: parallel.shard(rows, utterances) for name, rows in inputs.items()}
    return ResidentSplit(dealt, *known_of_all(labels, chunk_steps, utterances))
