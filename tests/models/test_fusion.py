"""Several inputs fused: what a missing one leaves, what stands in for it, and networks of audio alone."""

from __future__ import annotations

import dataclasses
from typing import Any, get_args

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from emocluster_jax.config import FusingName, ModelConfig
from emocluster_jax.corpora.inputs import FurtherInput
from emocluster_jax.feed.split import AUDIO, Inputs, mask_name
from emocluster_jax.models.fusion import MOST_DEVIATIONS, VectorEncoder, with_statistics
from emocluster_jax.models.network import Network, Output, chunks_of, example_inputs
from emocluster_jax.models.registry import network_of
from small_training import FEATURES, MODEL

FUSED = dataclasses.replace(MODEL, inputs=("text",))
LENGTH, WIDTH = 6, 32
RECORDINGS = 3


def inputs_of(present: tuple[float, ...] = (1, 1, 1), seed: int = 0) -> dict[str, jax.Array]:
    random = np.random.default_rng(seed)
    shape = (RECORDINGS, FEATURES.chunks_per_utterance, FEATURES.chunk_frames, FEATURES.mel_bands)
    mask = np.array(present, np.float32)
    text = random.normal(size=(RECORDINGS, LENGTH)) * mask[:, None]
    arrays = {AUDIO: random.normal(size=shape), "text": text, mask_name("text"): mask}
    return {name: jnp.asarray(rows, jnp.float32) for name, rows in arrays.items()}


def drawn(config: ModelConfig, seed: int = 1) -> Any:
    further = tuple(FurtherInput(name, LENGTH) for name in config.inputs)
    return jax.jit(network_of(config).init)(jax.random.key(seed), example_inputs(FEATURES, further))


def small(system: FusingName) -> ModelConfig:
    rate = ModelConfig.dropout_rate if system == "emocluster_triplet" else 0.0
    return dataclasses.replace(MODEL, system=system, dropout_rate=rate)


@pytest.mark.parametrize("system", get_args(FusingName))
def test_a_masked_text_without_weight_leaves_the_model_of_audio_alone(system: FusingName) -> None:
    alone = small(system)
    fused = dataclasses.replace(alone, inputs=("text",))
    variables, of_audio = drawn(fused), drawn(alone, seed=2)
    kernel = jnp.concatenate([jnp.eye(WIDTH), jnp.zeros((WIDTH, WIDTH))])
    fusion = {**variables["params"]["fusion"], "shared": {"kernel": kernel, "bias": jnp.zeros(WIDTH)}}
    # Numbers that would show.
    fusion["stand_in_text"] = jnp.ones(WIDTH)
    both = {
        "params": {**of_audio["params"], "fusion": fusion},
        "batch_stats": {**of_audio["batch_stats"], "fusion": variables["batch_stats"]["fusion"]},
    }
    given = inputs_of(present=(0, 0, 0))
    expected = network_of(alone).apply(of_audio, {AUDIO: given[AUDIO]})
    found = network_of(fused).apply(both, given)
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    for ours, theirs in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-8)  # float32 of two programs
        assert np.ptp(np.asarray(ours), axis=0).max() > 0


def test_without_further_inputs_the_network_is_what_it_was() -> None:
    class OfAudio(Network):
        title = "the encoder and the regressor"

        @nn.compact
        def __call__(self, inputs: Inputs, *, train: bool = False) -> Output:
            shared = self.encoder(chunks_of(inputs), train=train)
            return Output(shared, self.regress(shared))

    config = dataclasses.replace(MODEL, system="cnn_regressor", dropout_rate=0.5)
    expected, found = OfAudio(config), network_of(config)
    audio = {AUDIO: inputs_of()[AUDIO]}
    variables = [network.init(jax.random.key(0), audio) for network in (expected, found)]
    assert jax.tree.structure(variables[0]) == jax.tree.structure(variables[1])
    outputs = [
        network.apply(its, audio, train=True, rngs={"dropout": jax.random.key(3)}, mutable=["batch_stats"])
        for network, its in zip((expected, found), variables, strict=True)
    ]
    theirs, ours = (jax.tree.leaves(both) for both in zip(variables, outputs, strict=True))
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(one, other)
    assert "fusion" not in variables[1]["params"]


def test_what_is_missing_is_replaced_by_a_learned_stand_in() -> None:
    network, variables = network_of(FUSED), drawn(FUSED)
    some = inputs_of(present=(1, 0, 1))

    def attributes(params: Any, given: Inputs) -> jax.Array:
        output: Any = network.apply({**variables, "params": params}, given)
        return output.attributes.reshape(RECORDINGS, -1, len(FUSED.attributes))

    params = variables["params"]
    found = attributes(params, some)
    others = attributes(params, {**some, "text": some["text"] + 100 * (1 - some[mask_name("text")])[:, None]})
    np.testing.assert_array_equal(found, others)  # whatever a missing vector holds
    changed = {**params, "fusion": {**params["fusion"], "stand_in_text": jnp.ones(WIDTH)}}
    differs = np.any(np.asarray(attributes(changed, some) != found), axis=(1, 2))
    np.testing.assert_array_equal(differs, [False, True, False])

    gradients = jax.grad(lambda params, given: attributes(params, given).sum())
    learned = gradients(params, some)["fusion"]
    assert np.any(learned["stand_in_text"]) and not np.any(learned["stand_in_audio"])
    heard = {**inputs_of(), mask_name(AUDIO): jnp.zeros(RECORDINGS)}
    learned = gradients(params, heard)
    assert np.any(learned["fusion"]["stand_in_audio"]) and not np.any(learned["fusion"]["stand_in_text"])
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(learned["encoder"]))


def test_a_vector_stands_beside_every_chunk() -> None:
    network, variables, given = network_of(FUSED), drawn(FUSED), inputs_of()
    whole: Any = network.apply(variables, given)
    by_chunk = {name: jnp.repeat(rows, FEATURES.chunks_per_utterance, axis=0) for name, rows in given.items()}
    by_chunk[AUDIO] = given[AUDIO].reshape(-1, 1, *given[AUDIO].shape[2:])
    found: Any = network.apply(variables, by_chunk)
    np.testing.assert_allclose(found.embeddings, whole.embeddings, rtol=1e-5, atol=1e-7)  # sums in another order


def test_frames_are_read_chunk_by_chunk_and_missing_ones_are_not() -> None:
    face = FurtherInput("face", 5, 20.0)
    config = dataclasses.replace(MODEL, inputs=("face",))
    network = network_of(config)
    variables = jax.jit(network.init)(jax.random.key(1), example_inputs(FEATURES, (face,)))
    random, mask = np.random.default_rng(0), jnp.asarray([1.0, 0.0, 1.0])
    frames = jnp.asarray(random.normal(size=(RECORDINGS, *face.shape(FEATURES))), jnp.float32)
    given = {AUDIO: inputs_of()[AUDIO], "face": frames, mask_name("face"): mask}

    def embeddings(given: Inputs) -> jax.Array:
        output: Any = network.apply(variables, given)
        return output.embeddings.reshape(RECORDINGS, -1, WIDTH)

    whole = embeddings(given)
    # Whatever missing frames hold, and in training as well: they have no share in the batch's moments.
    other = {**given, "face": frames.at[1].set(7.0)}
    np.testing.assert_array_equal(embeddings(other), whole)
    trained = [
        network.apply(variables, its, train=True, rngs={"dropout": jax.random.key(3)}, mutable=["batch_stats"])
        for its in (given, other)
    ]
    for ours, theirs in zip(*map(jax.tree.leaves, trained), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    # A chunk's frames are that chunk's alone.
    changed = embeddings({**given, "face": frames.at[0, 2].set(0.0)})
    differs = np.any(np.asarray(changed != whole), axis=2)
    assert differs.sum() == 1 and differs[0, 2]
    by_chunk = {
        name: rows.reshape(-1, 1, *rows.shape[2:]) if rows.ndim == 4 else jnp.repeat(rows, whole.shape[1], axis=0)
        for name, rows in given.items()
    }
    found: Any = network.apply(variables, by_chunk)
    np.testing.assert_allclose(found.embeddings, whole.reshape(-1, WIDTH), rtol=1e-5, atol=1e-7)  # other order of sums


def test_vectors_are_normalised_by_their_statistics() -> None:
    encoder, random = VectorEncoder(WIDTH), np.random.default_rng(0)
    vectors = random.normal(5, 3, (4, LENGTH)).astype(np.float32)
    vectors[0, 0] = 1e6
    variables = encoder.init(jax.random.key(0), jnp.asarray(vectors))
    mean, std = random.normal(5, 1, LENGTH).astype(np.float32), random.uniform(1, 3, LENGTH).astype(np.float32)
    stats = with_statistics({"fusion": {"encoder_text": variables["batch_stats"]}}, {"text": (mean, std)})["fusion"]
    found = encoder.apply({**variables, "batch_stats": stats["encoder_text"]}, jnp.asarray(vectors))
    first, second = (variables["params"][name] for name in ("dense_0", "dense_1"))
    x = ((vectors - mean) / std).clip(-MOST_DEVIATIONS, MOST_DEVIATIONS)
    expected = np.maximum(x @ first["kernel"] + first["bias"], 0) @ second["kernel"] + second["bias"]
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)  # float32 sums of 32
