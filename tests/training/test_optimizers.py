"""Which layer moves in which stage, by how much, and when."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from emocluster_jax.config import OptimizerConfig
from emocluster_jax.objectives.optimizers import adam, rate_scale, stage_one_optimizer, stage_two_optimizer

PARAMS = {
    "encoder": {"kernel": jnp.ones(3)},
    "temporal": {"kernel": jnp.ones(3)},
    "cluster_classifier": {"hidden": {"kernel": jnp.ones(3)}, "output": {"kernel": jnp.ones(3)}},
    "attribute_regressor": {"hidden": {"kernel": jnp.ones(3)}, "output": {"kernel": jnp.ones(3)}},
}
GRADIENT = np.array([0.5, -2.0, 4.0], np.float32)
# Adam's first step is the gradient's sign times the rate, but for its epsilon of 1e-8.
SGD, ADAM, HEAD = -1e-3 * GRADIENT, -5e-4 * np.sign(GRADIENT), -0.05 * GRADIENT


def first_update(optimizer: optax.GradientTransformation) -> dict[str, np.ndarray]:
    gradients = {
        "encoder": {"kernel": GRADIENT},
        "temporal": {"kernel": GRADIENT},
        "cluster_classifier": {"hidden": {"kernel": GRADIENT}, "output": {"kernel": GRADIENT}},
        "attribute_regressor": {"hidden": {"kernel": GRADIENT}, "output": {"kernel": GRADIENT}},
    }
    updates, _ = optimizer.update(gradients, optimizer.init(PARAMS), PARAMS)
    return {
        "encoder": updates["encoder"]["kernel"],
        "temporal": updates["temporal"]["kernel"],
        "classifier": updates["cluster_classifier"]["hidden"]["kernel"],
        "head": updates["cluster_classifier"]["output"]["kernel"],
        "regressor": updates["attribute_regressor"]["output"]["kernel"],
    }


@pytest.mark.parametrize(
    ("optimizer", "expected"),
    [
        (
            stage_one_optimizer(OptimizerConfig()).transformation,
            {"encoder": SGD, "temporal": SGD, "classifier": SGD, "head": HEAD, "regressor": 0},
        ),
        (
            stage_two_optimizer(OptimizerConfig()).transformation,
            {
                "encoder": SGD + ADAM,
                "temporal": SGD + ADAM,
                "classifier": SGD + ADAM,
                "head": HEAD,
                "regressor": SGD + ADAM,
            },
        ),
        (
            stage_two_optimizer(OptimizerConfig(freeze_regressor=True)).transformation,
            {"encoder": SGD + ADAM, "temporal": SGD + ADAM, "classifier": SGD + ADAM, "head": HEAD, "regressor": 0},
        ),
    ],
    ids=["stage1", "stage2", "stage2-frozen"],
)
def test_first_update(optimizer: optax.GradientTransformation, expected: dict[str, np.ndarray | int]) -> None:
    updates = first_update(optimizer)
    for name, value in expected.items():
        np.testing.assert_allclose(updates[name], np.broadcast_to(value, 3), rtol=1e-5, atol=1e-12, err_msg=name)


TOLERANCE = 1e-5
"""Adam divides by 1 - 0.999, which float32 holds to 1e-5."""
LAYERS = {
    "encoder": {
        layer: {"kernel": jnp.ones((3, 1)), "bias": jnp.ones(3)} for layer in ("convolution_0", "norm_0", "shared")
    },
    "temporal": {"dense_0": {"kernel": jnp.ones((3, 1))}},
    "cluster_classifier": {"hidden": {"kernel": jnp.ones((3, 1))}, "output": {"kernel": jnp.ones((3, 1))}},
    "attribute_regressor": {"output": {"kernel": jnp.ones((3, 1)), "bias": jnp.ones(3)}},
}


def steps_of_adamw(**settings: object) -> dict[str, float]:
    """The first update of every layer by a gradient of ones, by AdamW with the rate 1; its first step is the rate."""
    config = OptimizerConfig(algorithm="adamw", adam_learning_rate=1.0, **settings)  # type: ignore[arg-type]
    transformation = stage_two_optimizer(config).transformation
    updates, _ = transformation.update(jax.tree.map(jnp.ones_like, LAYERS), transformation.init(LAYERS), LAYERS)
    return {
        "/".join(key.key for key in path).removeprefix("encoder/"): float(leaf.ravel()[0])
        for path, leaf in jax.tree_util.tree_flatten_with_path(updates)[0]
    }


def test_adamw_trains_parts_at_rates_of_their_own() -> None:
    plain = steps_of_adamw()
    assert plain.pop("cluster_classifier/output/kernel") == pytest.approx(-0.05)
    np.testing.assert_allclose(list(plain.values()), -1.0, rtol=TOLERANCE)

    gentle = steps_of_adamw(encoder_rate_factor=0.1, weight_decay=0.5)
    assert gentle["shared/kernel"] == gentle["convolution_0/kernel"] == pytest.approx(-0.15, abs=TOLERANCE)
    assert gentle["temporal/dense_0/kernel"] == gentle["shared/kernel"]
    assert gentle["shared/bias"] == gentle["norm_0/bias"] == pytest.approx(-0.1, abs=TOLERANCE)
    assert gentle["attribute_regressor/output/kernel"] == pytest.approx(-1.5, abs=TOLERANCE)

    for train_layers, moving in (("shared", {"shared/kernel", "shared/bias"}), ("heads", set())):
        frozen = steps_of_adamw(train_layers=train_layers, weight_decay=0.5, encoder_rate_factor=0.1)
        still = {name for name, step in frozen.items() if step == 0}
        assert {name for name in frozen if name.split("/")[0] in LAYERS["encoder"]} - still == moving
        assert not any(name.startswith(("attribute", "cluster", "temporal")) for name in still)


def test_logged_rates_are_those_of_the_groups() -> None:
    config = OptimizerConfig(encoder_rate_factor=0.1)
    assert stage_two_optimizer(config).learning_rates == pytest.approx(
        {"sgd": 1e-3, "adam": 5e-4, "cluster_head": 0.05, "encoder_sgd": 1e-4, "encoder_adam": 5e-5}
    )
    assert adam(config).learning_rates == pytest.approx({"adam": 5e-4, "encoder_adam": 5e-5})
    adamw = stage_one_optimizer(OptimizerConfig(algorithm="adamw"))
    assert adamw.learning_rates == {"adamw": 5e-4, "cluster_head": 0.05}


def test_the_weight_of_the_clusters_is_one_of_the_encoders_rate_where_updates_ignore_a_losss_weight() -> None:
    rates = stage_one_optimizer(OptimizerConfig(algorithm="adamw", encoder_rate_factor=0.5), 0.1).learning_rates
    assert rates == pytest.approx({"adamw": 5e-4, "encoder_adamw": 2.5e-5, "cluster_head": 0.05})
    # SGD's follow the weight of the loss.
    assert stage_one_optimizer(OptimizerConfig(), 0.1).learning_rates == {"sgd": 1e-3, "cluster_head": 0.05}


def test_rates_over_the_epochs() -> None:
    assert rate_scale(OptimizerConfig(), 10) is None
    warm = rate_scale(OptimizerConfig(warmup_epochs=2), 10)
    cosine = rate_scale(OptimizerConfig(warmup_epochs=2, schedule="cosine"), 10)
    assert warm is not None and cosine is not None
    epochs = 0.0, 0.5, 2.0, 6.0, 10.0, 11.0
    # Float32 of a cosine near 0.
    np.testing.assert_allclose([warm(jnp.float32(e)) for e in epochs], [0, 0.25, 1, 1, 1, 1], atol=1e-6)
    np.testing.assert_allclose([cosine(jnp.float32(e)) for e in epochs], [0, 0.25, 1, 0.5, 0, 0], atol=1e-6)
