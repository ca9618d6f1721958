"""Splits as training and evaluation see them, wherever their arrays are, and those that are on the devices."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Float32, Int, Shaped

from emocluster_jax.config import AUDIO
from emocluster_jax.corpora.labels import LabelColumns
from emocluster_jax.runtime import parallel

Feed = Literal["resident", "streamed"]

_ON_HOST = 64
"""Recordings of every device that come to the host together."""

Inputs = Mapping[str, Array]
"""Arrays by name, with a row per recording.

"audio" is chunked, (recordings, C, time, mel), as are frames of a further input, (recordings, C, frames, dims); one of
vectors is (recordings, dims). A further input is zeros where it is missing, as its mask `mask_name` says: 1 where there
is one, 0 where it is missing. Without a mask an input is there for every recording, as the audio mostly is.
"""


class Split(ABC):
    """The inputs of U recordings of C chunks each, split over the devices by recording."""

    labels: LabelColumns  # of all recordings of all processes
    chunk_steps: Int[np.ndarray, " utterances"] | None  # frames from one chunk's start to the next's, if known

    @property
    @abstractmethod
    def shape(self) -> tuple[int, int, int]:
        """That of a recording: chunks, their frames, and numbers in a frame."""

    @property
    def chunks_per_utterance(self) -> int:
        return self.shape[0]

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
    def blocks(self, size: int) -> AbstractContextManager[Iterator[Inputs]]:
        """The inputs on the devices, block after block, of `size` recordings of every device; see `block_starts`.

        Where a device has fewer than `size`, zeros follow.
        """

    @abstractmethod
    def draws(self, batches: Int[np.ndarray, "steps batch"], together: int) -> AbstractContextManager[Iterator[Inputs]]:
        """The inputs on the devices, batch after batch of global chunk numbers, of which every device has its share.

        `together` is how many of them, one after the other, are chunks of one recording in order: C for batches of
        whole recordings, 1 for batches of chunks, each of which then counts as a recording of one chunk, 2 for batches
        of chunks with the ones after them.
        """


def mask_name(name: str) -> str:
    """The name of the array that says which recordings have this input."""
    return f"{name}_present"


def presence(inputs: Inputs, name: str) -> Float[Array, " recordings"]:
    """1 for each recording that has this input, 0 for the others."""
    return inputs.get(mask_name(name), jnp.ones(inputs[AUDIO].shape[:1]))


def is_chunked(rows: Array | np.ndarray) -> bool:
    """Whether a recording's part of this array of `Inputs` is in chunks; otherwise it stands beside all of them."""
    return rows.ndim == 4


def by_row(values: Any, rows: Any) -> Any:
    """Values, one a row, in a shape that multiplies these rows of any shape."""
    return values.reshape(-1, *[1] * (rows.ndim - 1))


def per_chunk(rows: Float[Array, "recordings ..."], inputs: Inputs) -> Float[Array, "n ..."]:
    """Rows of the recordings whose `inputs` these are, repeated for each of their chunks."""
    return jnp.repeat(rows, inputs[AUDIO].shape[1], axis=0)


def remasked(inputs: Inputs, masks: Mapping[str, Float[Array, " recordings"]]) -> dict[str, Array]:
    """What replaces arrays of the inputs where these get other masks, which are given by the inputs' names: 1 for what
    recordings have and show, 0 for what is hidden.

    Further inputs that are hidden are zeros, as missing ones are. Audio stays as it is, and only its mask tells: the
    encoder takes its moments over the audio of all recordings.
    """
    found = {}
    for name, mask in masks.items():
        found[mask_name(name)] = mask
        if name != AUDIO:
            found[name] = inputs[name] * by_row(mask, inputs[name])
    return found


def further_inputs_in(inputs: Inputs) -> list[str]:
    """Names of the further inputs among these arrays."""
    return [name for name in inputs if name != AUDIO and mask_name(name) in inputs]


def masked(
    further: Mapping[str, Float[np.ndarray, "recordings ..."]],
) -> dict[str, Float32[np.ndarray, "recordings ..."]]:
    """Further inputs as networks get them: with zeros where one is missing (NaN), and the masks that say so."""
    arrays: dict[str, np.ndarray] = {}
    for name, rows in further.items():
        present = np.asarray(np.isfinite(rows).all(axis=tuple(range(1, rows.ndim))))
        shown = np.where(by_row(present, rows), rows, np.float32(0))
        arrays |= {name: shown, mask_name(name): present.astype(np.float32)}
    return arrays


def block_starts(size: int, count: int) -> Int[np.ndarray, " blocks"]:
    """The first recordings of the blocks of `size` of a device's `count`; the last starts early enough to be full."""
    return np.arange(0, count, size, dtype=np.int32).clip(max=max(count - size, 0))


def as_float32(inputs: Inputs) -> dict[str, Array]:
    """What a network gets of inputs that splits hold in less."""
    return {name: rows.astype(np.float32) for name, rows in inputs.items()}


class OfAll(NamedTuple):
    """What is known of all recordings of a split on every process; see `Split`."""

    labels: LabelColumns
    chunk_steps: Int[np.ndarray, " utterances"] | None


@dataclass(frozen=True)
class OneInput(Split):
    """A split that gives networks one input alone, with all others hidden."""

    whole: Split
    name: str
    labels: LabelColumns
    chunk_steps: Int[np.ndarray, " utterances"] | None

    @classmethod
    def of(cls, split: Split, name: str) -> OneInput:
        return cls(split, name, split.labels, split.chunk_steps)

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.whole.shape

    def blocks(self, size: int) -> AbstractContextManager[Iterator[Inputs]]:
        return self._alone(self.whole.blocks(size))

    def draws(self, batches: Int[np.ndarray, "steps batch"], together: int) -> AbstractContextManager[Iterator[Inputs]]:
        return self._alone(self.whole.draws(batches, together))

    @contextmanager
    def _alone(self, given: AbstractContextManager[Iterator[Inputs]]) -> Iterator[Iterator[Inputs]]:
        with given as arrays:
            yield map(self._of_block, arrays)

    def _of_block(self, inputs: Inputs) -> Inputs:
        names = AUDIO, *further_inputs_in(inputs)
        hidden = {name: np.float32(0) for name in names if name != self.name}
        return {**inputs, **remasking_program()((), inputs, hidden)}


@cache
def remasking_program() -> Callable[[tuple[()], Inputs, dict[str, np.float32]], dict[str, Array]]:
    """A program ((), a device's recordings, by input the mask of all of them) -> `remasked`."""

    def run(_: tuple[()], inputs: Inputs, masks: dict[str, Array]) -> dict[str, Array]:
        return remasked(inputs, {name: jnp.full(len(inputs[AUDIO]), mask) for name, mask in masks.items()})

    return parallel.parallel(run)


def rows_on_host(split: Split, names: Sequence[str]) -> Iterator[dict[str, Float[np.ndarray, "devices n ..."]]]:
    """A few recordings after another, these arrays of the inputs of this process's devices, each recording once."""
    count = split.utterances_per_device
    firsts = np.arange(0, count, _ON_HOST) - block_starts(_ON_HOST, count)  # the last block repeats some
    with split.blocks(_ON_HOST) as blocks:
        for first, block in zip(firsts.tolist(), blocks, strict=True):
            last = first + min(_ON_HOST, count)
            yield {name: np.asarray(block[name])[:, first:last] for name in names}


def known_of_all(labels: LabelColumns, chunk_steps: Int[np.ndarray, " own"] | None, utterances: int) -> OfAll:
    """The labels and steps of all recordings, from those of this process's share of them."""
    columns = labels.values if chunk_steps is None else np.column_stack([labels.values, chunk_steps])
    found = parallel.collect(parallel.shard(columns.astype(np.float32), utterances), utterances)
    if chunk_steps is None:
        return OfAll(LabelColumns(labels.names, found), None)
    return OfAll(LabelColumns(labels.names, found[:, :-1]), found[:, -1].astype(np.int32))


@dataclass(frozen=True)
class ResidentSplit(Split):
    """A split that was put on the devices once."""

    inputs: Inputs  # (local devices, recordings per device, ...); recordings past the last are padding
    labels: LabelColumns
    chunk_steps: Int[np.ndarray, " utterances"] | None = None

    @property
    def shape(self) -> tuple[int, int, int]:
        chunks, frames, dimensions = self.inputs[AUDIO].shape[2:]
        return chunks, frames, dimensions

    def blocks(self, size: int) -> AbstractContextManager[Iterator[Inputs]]:
        program = block_program(size)
        starts = block_starts(size, self.utterances_per_device)
        return nullcontext(program((), self.inputs, start) for start in starts)

    def draws(self, batches: Int[np.ndarray, "steps batch"], together: int) -> AbstractContextManager[Iterator[Inputs]]:
        program = draw_program(together)
        return nullcontext(program((), self.inputs, batch) for batch in batches)


@cache
def block_program(size: int) -> Callable[[tuple[()], Inputs, Array], Inputs]:
    """A program ((), a device's recordings, start) -> `size` of them; apart from the networks', which know no split."""

    def block_of_split(_: tuple[()], inputs: Inputs, start: Array) -> Inputs:
        def block(rows: Array) -> Array:
            taken = lax.dynamic_slice_in_dim(rows, start, min(size, len(rows)))
            return jnp.pad(taken, [(0, size - len(taken)), *[(0, 0)] * (rows.ndim - 1)])

        return {name: block(rows) for name, rows in inputs.items()}

    return parallel.parallel(block_of_split)


@cache
def draw_program(together: int) -> Callable[[tuple[()], Inputs, Array], Inputs]:
    """A program ((), a device's recordings, the whole batch's chunk numbers) -> the device's share of it."""

    def batch_of_split(_: tuple[()], inputs: Inputs, batch: Int[Array, " batch"]) -> Inputs:
        each = inputs[AUDIO].shape[1]

        def share(rows: Array) -> Array:
            if not is_chunked(rows):
                return parallel.gather_rows(rows, batch[::together] // each)
            chunks = parallel.gather_rows(rows.reshape(-1, *rows.shape[2:]), batch)
            return chunks.reshape(-1, together, *chunks.shape[1:])

        return {name: share(rows) for name, rows in inputs.items()}

    return parallel.parallel(batch_of_split)


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
