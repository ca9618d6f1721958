"""Moved, mixed and masked chunks."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from emocluster_jax.config import AugmentationConfig, FeatureConfig, TrainConfig
from emocluster_jax.errors import InputError
from emocluster_jax.feed.split import AUDIO, mask_name
from emocluster_jax.objectives.losses import cross_entropy
from emocluster_jax.objectives.stage import Batch
from emocluster_jax.preprocessing.chunks import chunk_step, split_chunks
from emocluster_jax.training.augmentation import (
    Windows,
    augmented,
    draw_windows,
    mixed_up,
    moved,
    moved_inputs,
    pairs,
    spec_augmented,
    with_hidden,
)
from emocluster_jax.training.data import check_settings
from small_training import AUGMENTED, FEATURES, make_data

RNG = np.random.default_rng(0)
KEY = jax.random.key(0, impl="rbg")  # as in training
EACH, LENGTH = FEATURES.chunks_per_utterance, FEATURES.chunk_frames
# Shorter than a chunk; as long as one; then chunks that overlap; that touch (a step of 16); that leave a gap.
FRAMES = (10, 16, 19, 40, 66, 67, 90)
STEPS = np.array([0, 0, 1, 8, 16, 17, 24])


def test_the_steps_are_those_between_chunks() -> None:
    for frames, step in zip(FRAMES, STEPS, strict=True):
        samples = (frames - 1) * FEATURES.hop_size + 5
        assert chunk_step(samples, FEATURES) == step
        starts = split_chunks(np.arange(frames)[:, None] + np.zeros((1, 2)), LENGTH, EACH)[:, 0, 0]
        np.testing.assert_array_equal(starts, step * np.arange(EACH))


@pytest.mark.parametrize("offset", [0.5, 1.0])
def test_moved_chunks_are_those_of_the_spectrogram_at_the_moved_place(offset: float) -> None:
    spectrograms = [RNG.normal(size=(frames, 3)).astype(np.float32) for frames in FRAMES]
    chunks = np.stack([split_chunks(mel, LENGTH, EACH) for mel in spectrograms])
    count = len(FRAMES)
    batches = np.tile(np.arange(count * EACH), (200, 1))
    windows = draw_windows(STEPS, EACH, LENGTH, offset, batches, np.random.default_rng(1))
    begins = (windows.lefts % EACH * windows.steps + windows.begins).reshape(-1, count, EACH)
    by = begins - STEPS[:, None] * np.arange(EACH)
    for recording, step in enumerate(STEPS):
        farthest = int(offset * step) if step <= LENGTH else 0
        found = [set(by[:, recording, chunk].tolist()) for chunk in range(EACH)]
        assert found[0] == set(range(farthest + 1))
        assert found[1] == found[2] == set(range(-farthest, farthest + 1))
        assert found[3] == set(range(-farthest, 1))

    whole, pair = jax.jit(moved), jax.jit(moved)
    flat = chunks.reshape(-1, LENGTH, 3)
    for row in range(20):
        drawn = type(windows)(*(values[row] for values in windows))
        expected = np.stack(
            [
                np.pad(mel, ((0, max(LENGTH - len(mel), 0)), (0, 0)))[begin : begin + LENGTH]
                for mel, recording in zip(spectrograms, begins[row], strict=True)
                for begin in recording
            ]
        )
        # In batches of whole recordings, and of chunks with the ones after them.
        found = whole(jnp.asarray(chunks), drawn._replace(lefts=drawn.lefts % EACH))
        np.testing.assert_array_equal(found.reshape(expected.shape), expected)
        beside = flat[pairs(drawn.lefts)].reshape(-1, 2, LENGTH, 3)
        assert (drawn.lefts % EACH < EACH - 1).all()
        found = pair(jnp.asarray(beside), drawn._replace(lefts=np.zeros_like(drawn.lefts)))
        np.testing.assert_array_equal(found.reshape(expected.shape), expected)


def test_frames_move_with_the_sound() -> None:
    """Chunks of 16 frames of sound and of 6 frames beside it, of the same times, which they hold."""
    each, time, frames, step = 4, 16, 6, 10
    ratio = frames / time
    audio = np.arange(each)[:, None] * step + np.arange(time)
    face = np.rint(np.arange(each)[:, None] * step * ratio) + np.arange(frames)
    inputs = {AUDIO: audio[None, ..., None], "face": face[None, ..., None], "text": np.ones((1, 3))}
    given = {name: jnp.asarray(rows, jnp.float32) for name, rows in inputs.items()}
    for left in range(each - 1):
        for begin in range(step + 1):
            windows = Windows(*(jnp.full(1, value, jnp.int32) for value in (left, begin, step)))
            found = moved_inputs(given, windows)
            assert found["text"] is given["text"]
            heard, seen = (np.asarray(found[name])[0, 0, :, 0] for name in (AUDIO, "face"))
            np.testing.assert_array_equal(heard, left * step + begin + np.arange(time))
            # Where it begins, how far it is moved and where the next chunk begins are each rounded.
            assert np.abs(seen - (heard[0] * ratio + np.arange(frames))).max() <= 1.5


def batch_of(recordings: int, each: int) -> Batch:
    """Random chunks with a further input, some of it and of the targets missing."""
    present = (np.arange(recordings) % 3 > 0).astype(np.float32)
    text = RNG.normal(size=(recordings, 3)).astype(np.float32) * present[:, None]
    audio = RNG.normal(size=(recordings, each, LENGTH, FEATURES.mel_bands)).astype(np.float32)
    targets = np.repeat(RNG.normal(size=(recordings, 2)).astype(np.float32), each, axis=0)
    targets[::5, 1] = np.nan
    labels = RNG.integers(5, size=recordings * each).astype(np.int32)
    inputs = {AUDIO: jnp.asarray(audio), "text": jnp.asarray(text), mask_name("text"): jnp.asarray(present)}
    return Batch(inputs, jnp.asarray(labels), jnp.asarray(targets), jnp.zeros(()))


@pytest.mark.parametrize("each", [1, 4])
def test_a_mixture_is_linear_in_chunks_and_labels(each: int) -> None:
    batch = batch_of(64, each)
    # The number of a recording, mixed as its targets are, tells which one was mixed in.
    numbers = jnp.repeat(jnp.stack([jnp.arange(64.0), jnp.ones(64)], axis=1), each, axis=0)
    mixed, told = (mixed_up(given, 0.4, KEY) for given in (batch, batch._replace(targets=numbers)))
    assert mixed.shares is not None and mixed.other_labels is not None
    shares = np.asarray(mixed.shares, np.float64)
    assert shares.min() >= 0.5 and shares.max() <= 1 and len(np.unique(shares)) > 32
    own = np.asarray(numbers[:, 0], np.float64)
    fits = np.isclose(shares[:, None] * own[:, None] + (1 - shares)[:, None] * np.arange(64), told.targets[:, :1])
    order = np.where(shares < 0.999, fits.argmax(axis=1), own).astype(int)[::each]
    clear = shares[::each] < 0.99  # of other ones rounding hides the partner
    assert fits.any(axis=1).all() and clear.sum() > 30
    assert len(set(order[clear])) == clear.sum()  # nobody is mixed into two

    share = shares[::each, None][clear]
    rows, others = np.flatnonzero(clear), order[clear]
    audio, text, present = (np.asarray(batch.inputs[name]) for name in (AUDIO, "text", mask_name("text")))
    found = {name: np.asarray(rows)[clear] for name, rows in mixed.inputs.items()}
    both = share[..., None, None] * audio[rows] + (1 - share)[..., None, None] * audio[others]
    np.testing.assert_allclose(found[AUDIO], both, atol=1e-6)
    np.testing.assert_array_equal(found[mask_name("text")], present[rows] * present[others])
    both = (share * text[rows] + (1 - share) * text[others]) * found[mask_name("text")][:, None]
    np.testing.assert_allclose(found["text"], both, atol=1e-6)

    targets, labels = (np.asarray(values).reshape(64, each, -1) for values in (batch.targets, batch.pseudo_labels))
    both = share[..., None] * targets[rows] + (1 - share)[..., None] * targets[others]
    np.testing.assert_allclose(np.asarray(mixed.targets).reshape(64, each, 2)[clear], both, atol=1e-6)
    np.testing.assert_array_equal(np.asarray(mixed.other_labels).reshape(64, each, 1)[clear], labels[others])
    np.testing.assert_array_equal(mixed.pseudo_labels, batch.pseudo_labels)


def test_the_cross_entropy_of_a_mixture_is_the_mixture_of_both() -> None:
    logits, labels = jnp.asarray(RNG.normal(size=(6, 4)), jnp.float32), jnp.arange(6, dtype=jnp.int32) % 4
    others, shares = labels[::-1], jnp.linspace(0.5, 1, 6)
    parts = [
        share * cross_entropy(row, own) + (1 - share) * cross_entropy(row, other)
        for row, own, other, share in zip(logits[:, None], labels[:, None], others[:, None], shares, strict=True)
    ]
    assert float(cross_entropy(logits, labels, others, shares)) == pytest.approx(float(np.mean(parts)), rel=1e-6)


def test_masks_are_of_at_most_so_many_frames_and_bands() -> None:
    config = AugmentationConfig(time_masks=2, time_mask_frames=3, frequency_masks=1, frequency_mask_bands=8)
    audio = jnp.ones((50, 4, LENGTH, FEATURES.mel_bands))
    masked = np.asarray(spec_augmented(audio, config, KEY)) == 0
    frames, bands = masked.all(axis=-1), masked.all(axis=-2)
    np.testing.assert_array_equal(masked, frames[..., None] | bands[..., None, :])
    assert set(np.unique(frames.sum(axis=-1))) == set(range(7))
    assert set(np.unique(bands.sum(axis=-1))) == set(range(9))
    assert frames.any(axis=(0, 1)).all() and bands.any(axis=(0, 1)).all()  # also at the edges
    edges = np.diff(np.pad(bands, ((0, 0), (0, 0), (1, 1))).astype(int), axis=-1)
    assert ((edges == 1).sum(axis=-1) == bands.any(axis=-1)).all()  # one mask, in one piece
    assert len(np.unique(bands.reshape(200, -1), axis=0)) > 100  # chunks have masks of their own

    other = np.asarray(spec_augmented(audio, config, jax.random.key(1, impl="rbg"))) == 0
    assert (other != masked).any()


def change(batch: Batch, config: AugmentationConfig) -> Batch:
    """As a training step does, on one device."""
    program = jax.pmap(lambda given: augmented(given, config, KEY, "devices"), axis_name="devices")
    return jax.tree.map(lambda rows: rows[0], program(jax.tree.map(lambda rows: rows[None], batch)))


@pytest.mark.parametrize("rate", [0.3, 1.0])
def test_inputs_are_hidden_at_their_rate_and_never_all(rate: float) -> None:
    count = 20_000
    random = np.random.default_rng(3)
    masks = {name: (random.random(count) < 0.7).astype(np.float32) for name in ("face", "text")}
    inputs = {AUDIO: jnp.ones((count, 1, 1, 1))}
    for name, mask in masks.items():
        inputs |= {name: jnp.asarray(mask[:, None] * [2.0, 3.0]), mask_name(name): jnp.asarray(mask)}
    found = {name: np.asarray(rows) for name, rows in with_hidden(inputs, rate, KEY).items()}
    names = (AUDIO, *masks)
    before = np.stack([np.ones(count), *masks.values()], axis=1)
    after = np.stack([found[mask_name(name)] for name in names], axis=1)
    assert (after.sum(axis=1) >= 1).all() and (after <= before).all()
    # Of k inputs that a recording has, all would be hidden with probability rate^k, and one of them stays then.
    for k in (1, 2, 3):
        rows = before.sum(axis=1) == k
        hidden = (before[rows] - after[rows]).sum() / (k * rows.sum())
        spread = np.sqrt(k / rows.sum())  # of a mean of that many draws, with a margin of several deviations
        assert hidden == pytest.approx(rate - rate**k / k, abs=2 * spread), k
    whole = before.sum(axis=1) == 3
    np.testing.assert_allclose(after[whole].mean(axis=0), after[whole].mean(), atol=0.03)  # none is preferred
    np.testing.assert_array_equal(found[AUDIO], inputs[AUDIO])
    for name in masks:
        np.testing.assert_array_equal(found[name], found[mask_name(name)][:, None] * [2.0, 3.0])


def test_a_mixture_loses_inputs_as_a_recording_does() -> None:
    batch, rate = batch_of(2_000, 1), 0.3
    config = AugmentationConfig(mixup_alpha=0.4)
    mixed, hidden = change(batch, config), change(batch, dataclasses.replace(config, input_dropout=rate))
    for name in (AUDIO, "targets", "shares"):
        ours, theirs = ((b.inputs[name] if name == AUDIO else getattr(b, name)) for b in (hidden, mixed))
        np.testing.assert_allclose(ours, theirs, atol=1e-5)  # shares that two programs compute in float32
    has, keeps = (np.asarray(b.inputs[mask_name("text")]) for b in (mixed, hidden))
    # Hidden before the mixing, it would be kept with probability (1 - rate)² alone.
    assert keeps[has > 0].mean() == pytest.approx(1 - rate + rate**2 / 2, abs=0.05)
    assert not keeps[has == 0].any()
    assert mask_name(AUDIO) not in mixed.inputs and 0.5 < float(hidden.inputs[mask_name(AUDIO)].mean()) < 1


def test_what_a_batch_keeps() -> None:
    batch = batch_of(8, 1)
    nothing: Any = augmented(batch, AugmentationConfig(chunk_offset=1.0), KEY, "devices")
    assert nothing is batch
    both = change(batch, AUGMENTED)
    mixed = change(batch, dataclasses.replace(AUGMENTED, time_masks=0, frequency_masks=0))
    np.testing.assert_array_equal(both.chunks, mixed.chunks)  # what autoencoders restore has no masks
    hidden = np.asarray(both.inputs[AUDIO][:, 0] != both.chunks)
    assert hidden.any() and (np.asarray(both.inputs[AUDIO][:, 0])[hidden] == 0).all()
    np.testing.assert_array_equal(both.targets, mixed.targets)


@pytest.mark.parametrize(
    ("augmentation", "features", "message"),
    [
        (AugmentationConfig(time_masks=1, time_mask_frames=17), FEATURES, "`time_mask_frames` is 17; expected 1 to 16"),
        (
            AugmentationConfig(frequency_masks=1, frequency_mask_bands=33),
            FEATURES,
            "`frequency_mask_bands` is 33; expected 1 to 32, the bands of a chunk",
        ),
        (
            AugmentationConfig(chunk_offset=0.5),
            FeatureConfig(mel_bands=32, chunk_frames=16, chunks_per_utterance=1),
            "`chunk_offset` moves chunks towards the ones beside them, but these recordings have one chunk each",
        ),
        (AugmentationConfig(chunk_offset=0.5), FEATURES, "`chunk_offset` needs `chunk_steps`"),
    ],
)
def test_what_cannot_be_done_is_refused(
    augmentation: AugmentationConfig, features: FeatureConfig, message: str
) -> None:
    data = dataclasses.replace(make_data(), features=features)
    with pytest.raises(InputError, match=re.escape(message)):
        check_settings(TrainConfig(augmentation=augmentation), data, ("arousal",))
    off = dataclasses.replace(augmentation, time_masks=0, frequency_masks=0, chunk_offset=0.0)
    check_settings(TrainConfig(augmentation=off), data, ("arousal",))
