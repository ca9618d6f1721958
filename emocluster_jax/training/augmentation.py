"""Random changes of a training step's batch, as pure functions: chunks are moved, mixed, masked, and inputs hidden.

They come in this order: a moved chunk is another piece of its recording, as if it had been cut there; a mixture is of
whole chunks; masks come after it, as otherwise another chunk would show through them. So do hidden inputs, as otherwise
a mixture would lack what is hidden of either of the two. Where chunks are moved to is drawn on the host, with the
batches, since a streamed split has to read the chunks beside them; the rest is drawn in the compiled step, from its
key.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from emocluster_jax.config import AugmentationConfig
from emocluster_jax.feed.split import (
    AUDIO,
    Inputs,
    by_row,
    further_inputs_in,
    is_chunked,
    mask_name,
    presence,
    remasked,
)
from emocluster_jax.models.network import chunks_of
from emocluster_jax.objectives.stage import Batch


class Windows(NamedTuple):
    """Where moved chunks are taken from: of two chunks of a recording, one after the other, which they lie in.

    Attributes:
      lefts: the number of the first of the two.
      begins: the frame in it, from 0 to `steps`, that the moved chunk begins with.
      steps: the frame in it, or after it, that the second chunk begins with.
    """

    lefts: Int[Array | np.ndarray, "*batch"]
    begins: Int[Array | np.ndarray, "*batch"]
    steps: Int[Array | np.ndarray, "*batch"]


def draw_windows(
    chunk_steps: Int[np.ndarray, " utterances"],
    chunks_per_utterance: int,
    chunk_frames: int,
    offset: float,
    batches: Int[np.ndarray, "steps batch"],
    rng: np.random.Generator,
) -> Windows:
    """Moves every chunk of the batches, given by global numbers, by some frames, all equally likely.

    It is moved by at most `offset` of its recording's `chunk_steps` in either direction, but not beyond the first and
    the last chunk; and not at all where chunks leave gaps, of which there are no frames.
    """
    numbers, steps = batches % chunks_per_utterance, chunk_steps[batches // chunks_per_utterance]
    farthest = np.where(steps <= chunk_frames, np.floor(offset * steps), 0).astype(np.int64)
    lowest = np.where(numbers > 0, -farthest, 0)
    highest = np.where(numbers < chunks_per_utterance - 1, farthest, 0)
    by = rng.integers(lowest, highest, endpoint=True)
    # The last chunk has none after it: not moved, it is the second of its two.
    before = (by < 0) | (numbers == chunks_per_utterance - 1)
    begins = np.where(before, steps + by, by)
    return Windows((batches - before).astype(np.int32), begins.astype(np.int32), steps.astype(np.int32))


def pairs(lefts: Any) -> Any:
    """The numbers of these chunks (*steps, batch), each followed by that of the chunk after it, (*steps, 2 · batch)."""
    return (lefts[..., None] + np.arange(2, dtype=np.int32)).reshape(*lefts.shape[:-1], -1)


def moved(chunks: Float[Array, "r chunks time mel"], windows: Windows) -> Float[Array, "r moved time mel"]:
    """The chunks at the windows of each recording's `chunks`, of which `windows.lefts` are numbers.

    The windows (n,) are those of the first recording, of the second and so on, equally many.
    """
    recordings, _, time, _ = chunks.shape
    lefts, begins, steps = (values.reshape(recordings, -1, 1) for values in windows)
    frames = begins + jnp.arange(time)
    second = frames >= steps
    rows = jnp.arange(recordings)[:, None, None]
    return chunks[rows, lefts + second, jnp.where(second, frames - steps, frames)]


def moved_inputs(inputs: Inputs, windows: Windows) -> dict[str, Array]:
    """The inputs of batches of chunks with the sound's chunks moved, and with them those of frames, to their nearest.

    A chunk of frames lasts as long as one of the sound, and so has other numbers of frames for the same times.
    """
    time = inputs[AUDIO].shape[2]

    def at_their_rate(frames: Any, length: int) -> Int[Array, "*batch"]:
        return jnp.rint(frames * (length / time)).astype(jnp.int32)

    found = dict(inputs)
    for name, rows in inputs.items():
        if is_chunked(rows):
            scaled = (at_their_rate(frames, rows.shape[2]) for frames in windows[1:])
            found[name] = moved(rows, Windows(windows.lefts, *scaled))
    return found


def augmented(batch: Batch, config: AugmentationConfig, key: Array, axis_name: str) -> Batch:
    """The batch mixed, masked and with inputs hidden as `config` says; itself where it says nothing.

    Each device of the mapped axis `axis_name` changes its share of the batch, and folds its number into the step's key.
    """
    if not (config.mixup_alpha > 0 or config.time_masks or config.frequency_masks or config.input_dropout > 0):
        return batch
    # This key itself, and its 1, are those of dropout and noise.
    key = jax.random.fold_in(key, lax.axis_index(axis_name))
    if config.mixup_alpha > 0:
        batch = mixed_up(batch, config.mixup_alpha, jax.random.fold_in(key, 2))
    if config.time_masks or config.frequency_masks:
        masked = spec_augmented(batch.inputs[AUDIO], config, jax.random.fold_in(key, 3))
        batch = batch._replace(unmasked=chunks_of(batch.inputs), inputs={**batch.inputs, AUDIO: masked})
    if config.input_dropout > 0:
        batch = batch._replace(inputs=with_hidden(batch.inputs, config.input_dropout, jax.random.fold_in(key, 4)))
    return batch


def mixed_up(batch: Batch, alpha: float, key: Array) -> Batch:
    """Mixes every recording of the batch (a chunk, if the batch is of chunks) with another one of this device's.

    Shares are drawn for each from Beta(alpha, alpha), so that a batch, which the CCC is computed over, has mixtures of
    all kinds; the larger one is the recording's own, which loses no pair, as each is the other of one. A target or
    further input is missing where it is missing for either.

    Source: Zhang, Cissé, Dauphin & Lopez-Paz, "mixup: beyond empirical risk minimization", ICLR 2018.
    """
    recordings, each = batch.inputs[AUDIO].shape[:2]
    order_key, shares_key = jax.random.split(key)
    order = jax.random.permutation(order_key, recordings)
    shares = jax.random.beta(shares_key, alpha, alpha, (recordings,))
    shares = jnp.maximum(shares, 1 - shares)
    # The same chunk of the other recording.
    chunk_order = (order[:, None] * each + jnp.arange(each)).reshape(-1)
    chunk_shares = jnp.repeat(shares, each)
    return batch._replace(
        inputs=_mixed_inputs(batch.inputs, order, shares),
        targets=_mixture(batch.targets, chunk_order, chunk_shares),
        other_labels=None if batch.pseudo_labels is None else batch.pseudo_labels[chunk_order],
        other_classes=None if batch.classes is None else batch.classes[chunk_order],
        shares=chunk_shares,
    )


def _mixed_inputs(inputs: Inputs, order: Int[Array, " r"], shares: Float[Array, " r"]) -> dict[str, Array]:
    found = {}
    for name, rows in inputs.items():
        present = inputs.get(mask_name(name))
        if present is not None:
            both = present * present[order]
            found |= {name: _mixture(rows, order, shares) * by_row(both, rows), mask_name(name): both}
        elif name not in found:
            found[name] = _mixture(rows, order, shares)
    return found


def _mixture(rows: Float[Array, "n ..."], order: Int[Array, " n"], shares: Float[Array, " n"]) -> Float[Array, "n ..."]:
    own = by_row(shares, rows)
    return own * rows + (1 - own) * rows[order]


def with_hidden(inputs: Inputs, rate: float, key: Array) -> dict[str, Array]:
    """Hides each input of each recording (a chunk, if the batch is of chunks) with the probability `rate`.

    If all that a recording has would be hidden, one of these stays, each as likely as the others.

    Source, for modalities: Neverova, Wolf, Taylor & Nebout, "ModDrop: adaptive multi-modal gesture recognition", IEEE
    TPAMI 38, 2016.
    """
    names = [AUDIO, *further_inputs_in(inputs)]
    present = jnp.stack([presence(inputs, name) for name in names], axis=1) > 0
    draws = jax.random.uniform(key, present.shape)
    most = jnp.where(present, draws, -1.0).max(axis=1, keepdims=True)
    stays = (present & ((draws >= rate) | (draws == most))).astype(jnp.float32)
    return {**inputs, **remasked(inputs, dict(zip(names, stays.T, strict=True)))}


def spec_augmented(
    audio: Float[Array, "r chunks time mel"], config: AugmentationConfig, key: Array
) -> Float[Array, "r chunks time mel"]:
    """Sets spans of frames and of bands to 0, the mean of normalised features, in each chunk other ones.

    A mask's width is drawn from 0 to the most that `config` allows, then its place from all at which it fits.

    Source: Park et al., "SpecAugment: a simple data augmentation method for automatic speech recognition", Interspeech
    2019, without its time warping.
    """
    *rows, time, mel = audio.shape
    time_key, frequency_key = jax.random.split(key)
    frames = _masked(time_key, tuple(rows), time, config.time_masks, config.time_mask_frames)
    bands = _masked(frequency_key, tuple(rows), mel, config.frequency_masks, config.frequency_mask_bands)
    return jnp.where(frames[..., :, None] | bands[..., None, :], 0.0, audio)


def _masked(key: Array, rows: tuple[int, ...], size: int, masks: int, most: int) -> Bool[Array, "*rows {size}"]:
    """Which of `size` places each row's masks, each of 0 to `most` neighbouring places, cover."""
    width_key, place_key = jax.random.split(key)
    widths = jax.random.randint(width_key, (*rows, masks, 1), 0, most + 1)
    starts = jax.random.randint(place_key, widths.shape, 0, size - widths + 1)
    places = jnp.arange(size)
    return ((starts <= places) & (places < starts + widths)).any(axis=-2)
