"""The ladder's parts: the combinator, what noise costs, and a clean path that is the plain encoder."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from emocluster_jax.config import LADDER_LEVELS, ModelConfig
from emocluster_jax.models.cnn_regressor import CnnRegressor
from emocluster_jax.models.ladder import Combinator, Ladder

CONFIG = ModelConfig(system="ladder", width_multiplier=0.125, dropout_rate=0.0)
INPUTS = {"audio": jnp.asarray(np.random.default_rng(0).normal(size=(8, 1, 32, 64)), jnp.float32)}
# As in training: Threefry takes XLA many seconds to compile.
RNGS = {"noise": jax.random.key(2, impl="rbg")}


@pytest.fixture(scope="module")
def variables() -> Any:
    return jax.jit(Ladder(CONFIG).init)(jax.random.key(0, impl="rbg"), INPUTS)


@jax.jit
def in_training(variables: Any, noise_std: float) -> tuple[Any, Any]:
    """The output with such noise, and the new batch statistics."""
    output, updated = Ladder(CONFIG).apply(
        variables, INPUTS, train=True, noise_std=noise_std, rngs=RNGS, mutable=["batch_stats"]
    )
    return output, updated["batch_stats"]


def test_a_combinator_passes_the_noisy_values_on_until_it_has_learnt_better() -> None:
    noisy, above = jnp.asarray(np.random.default_rng(0).normal(size=(2, 5, 3, 4)), jnp.float32)
    combined, _ = Combinator().init_with_output(jax.random.key(0), noisy, above)
    np.testing.assert_array_equal(combined, noisy)


def test_the_combinator_is_that_of_the_paper() -> None:
    rng = np.random.default_rng(0)
    z, u, a = (rng.normal(size=(rows, 2)).astype(np.float32) for rows in (6, 6, 10))

    def curve(b1, b2, b3, b4, b5):
        return b1 / (1 + np.exp(-(b2 * u + b3))) + b4 * u + b5

    mean, slope = curve(*a[:5]), curve(*a[5:])
    combined: Any = Combinator().apply({"params": {"a": jnp.asarray(a)}}, jnp.asarray(z), jnp.asarray(u))
    np.testing.assert_allclose(combined, (z - mean) * slope + mean, rtol=1e-5, atol=1e-5)  # float32


def test_denoising_costs_nothing_where_there_is_no_noise(variables: Any) -> None:
    costs = np.asarray(in_training(variables, 0.0)[0].extras["denoising_costs"])
    assert costs.shape == (LADDER_LEVELS,)
    # The paths round differently, by some 1e-6 of activations of 1; these are squares. The input is the same array.
    assert costs[0] == 0.0 and costs.max() < 1e-9


def test_denoising_costs_what_the_noise_is(variables: Any) -> None:
    costs = np.asarray(in_training(variables, 0.3)[0].extras["denoising_costs"])
    # At the input the estimate is off by the noise itself: over 16,384 draws its variance is known to 1 %.
    assert costs[0] == pytest.approx(0.09, rel=0.05)
    # Above, the noise from below comes on top.
    assert costs[1:].min() > 0.08


def test_the_clean_path_is_the_plain_encoder(variables: Any) -> None:
    regressor = CnnRegressor(CONFIG)
    shared = {name: variables["params"][name] for name in ("encoder", "attribute_regressor")}
    plain = {"params": shared, "batch_stats": {"encoder": variables["batch_stats"]["encoder"]}}
    ours: Any = jax.jit(Ladder(CONFIG).apply)(variables, INPUTS)
    theirs: Any = jax.jit(regressor.apply)(plain, INPUTS)
    np.testing.assert_allclose(ours.attributes, theirs.attributes, atol=1e-6)
    np.testing.assert_allclose(ours.embeddings, theirs.embeddings, atol=1e-6)
    # The running statistics are those of the clean path, seen once.
    _, statistics = in_training(variables, 0.3)
    _, updated = jax.jit(lambda v: regressor.apply(v, INPUTS, train=True, mutable=["batch_stats"]))(plain)
    for found, expected in zip(jax.tree.leaves(statistics), jax.tree.leaves(updated["batch_stats"]), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_devices_that_share_a_batch_agree_with_one(variables: Any) -> None:
    """Over an axis of four shares, which `vmap` stands in for; without noise, which each share draws for itself."""
    # Combinators that pass their input on would cost nothing.
    rng = np.random.default_rng(1)
    moved = jax.tree.map(lambda leaf: leaf + 0.1 * rng.uniform(size=leaf.shape).astype(np.float32), variables)

    def shared(inputs):
        output, updated = Ladder(CONFIG, "shares").apply(moved, inputs, train=True, rngs=RNGS, mutable=["batch_stats"])
        return output.attributes, lax.pmean((output.extras["denoising_costs"], updated["batch_stats"]), "shares")

    shares = {"audio": INPUTS["audio"].reshape(4, 2, 1, 32, 64)}
    attributes, found = jax.jit(jax.vmap(shared, axis_name="shares", out_axes=(0, None)))(shares)
    whole, statistics = in_training(moved, 0.0)
    # Float32 sums in another order, through up to sixteen normalisations by as few as eight values.
    np.testing.assert_allclose(attributes.reshape(8, -1), whole.attributes, rtol=1e-3, atol=1e-4)
    for one, other in zip(
        jax.tree.leaves(found), jax.tree.leaves((whole.extras["denoising_costs"], statistics)), strict=True
    ):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-5)
    assert np.asarray(whole.extras["denoising_costs"]).min() > 1e-4
