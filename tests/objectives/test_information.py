"""Mutual information as a loss, against scikit-learn's, over devices, and by finite differences."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from sklearn.metrics import mutual_info_score

from emocluster_jax.objectives.information import memberships, normalized_information, shared_information

EXAMPLES, CLUSTERS, CLASSES = 240, 6, 5


def drawn(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Clusters, and classes that have something to do with them, of which some are unknown."""
    rng = np.random.default_rng(seed)
    clusters = rng.integers(CLUSTERS, size=EXAMPLES)
    classes = np.where(rng.random(EXAMPLES) < 0.4, clusters % CLASSES, rng.integers(CLASSES, size=EXAMPLES))
    return clusters, np.where(rng.random(EXAMPLES) < 0.1, -1, classes)


@pytest.mark.parametrize("seed", range(3))
def test_hard_clusters_share_what_scikit_learn_says(seed: int) -> None:
    clusters, classes = drawn(seed)
    known = classes >= 0
    hard = jax.nn.one_hot(clusters, CLUSTERS)
    found, entropy = shared_information(hard, memberships(jnp.asarray(classes), CLASSES + 3))  # three without examples
    # Sums of some 30 numbers in float32.
    assert float(found) == pytest.approx(mutual_info_score(classes[known], clusters[known]), abs=2e-6)
    assert float(entropy) == pytest.approx(mutual_info_score(classes[known], classes[known]), abs=2e-6)
    same = normalized_information(
        memberships(jnp.asarray(classes), CLASSES), memberships(jnp.asarray(classes), CLASSES)
    )
    assert float(same) == pytest.approx(1.0, abs=1e-5)


def soft(seed: int) -> tuple[jax.Array, jax.Array]:
    clusters, classes = drawn(seed)
    logits = jnp.asarray(np.random.default_rng(seed).normal(size=(EXAMPLES, CLUSTERS)) + 2 * np.eye(CLUSTERS)[clusters])
    return logits, memberships(jnp.asarray(classes), CLASSES)


def share(logits: jax.Array, classes: jax.Array, axis_name: str | None = None) -> jax.Array:
    return normalized_information(jax.nn.softmax(logits), classes, axis_name)


@pytest.mark.parametrize("devices", [1, 8])
def test_devices_agree_with_one(devices: int) -> None:
    logits, classes = soft(0)

    def on_one(logits: jax.Array, classes: jax.Array) -> tuple[jax.Array, jax.Array]:
        value, gradient = jax.value_and_grad(share)(logits, classes, "devices")
        # A step averages the gradients of its parameters; each device has its own examples' logits here.
        return lax.pmean(value, "devices"), gradient / devices

    split = (x.reshape(devices, -1, x.shape[-1]) for x in (logits, classes))
    value, gradient = jax.vmap(on_one, axis_name="devices")(*split)
    expected, expected_gradient = jax.value_and_grad(share)(logits, classes)
    np.testing.assert_allclose(value, np.full(devices, expected), rtol=1e-6)  # float32 sums in another order
    np.testing.assert_allclose(gradient.reshape(logits.shape), expected_gradient, atol=1e-8)


def test_gradient_is_that_of_finite_differences() -> None:
    with jax.enable_x64(True):
        logits, classes = (jnp.asarray(np.asarray(x), jnp.float64) for x in soft(1))
        gradient = jax.grad(share)(logits, classes)
        rng = np.random.default_rng(0)
        for _ in range(5):
            way = jnp.asarray(rng.normal(size=logits.shape))
            difference = (share(logits + 1e-5 * way, classes) - share(logits - 1e-5 * way, classes)) / 2e-5
            assert float(difference) == pytest.approx(float((gradient * way).sum()), rel=1e-6, abs=1e-10)


def test_mixed_examples_belong_to_both_classes() -> None:
    own, others, shares = jnp.array([0, 1, 2, -1]), jnp.array([1, 1, -1, 0]), jnp.array([0.75, 0.5, 0.75, 0.75])
    expected = [[0.75, 0.25, 0], [0, 1, 0], [0, 0, 0], [0, 0, 0]]
    np.testing.assert_array_equal(memberships(own, 3, others, shares), expected)


@pytest.mark.parametrize("classes", [[-1, -1, -1], [2, -1, 2]])
def test_nothing_is_shared_with_fewer_than_two_classes(classes: list[int]) -> None:
    logits = jnp.asarray([[1.0, 0.0], [0.0, 1.0], [0.5, 0.0]])
    value, gradient = jax.value_and_grad(share)(logits, memberships(jnp.array(classes), 4))
    assert float(value) == 0 and not np.any(gradient)
