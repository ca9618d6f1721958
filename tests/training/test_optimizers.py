"""Which layer moves in which stage, and by how much."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from emocluster_jax.config import OptimizerConfig
from emocluster_jax.objectives.optimizers import stage_one_optimizer, stage_two_optimizer

PARAMS = {
    "encoder": {"kernel": jnp.ones(3)},
    "cluster_classifier": {"hidden": {"kernel": jnp.ones(3)}, "output": {"kernel": jnp.ones(3)}},
    "attribute_regressor": {"hidden": {"kernel": jnp.ones(3)}, "output": {"kernel": jnp.ones(3)}},
}
GRADIENT = np.array([0.5, -2.0, 4.0], np.float32)
# Adam's first step is the gradient's sign times the rate, but for its epsilon of 1e-8.
SGD, ADAM, HEAD = -1e-3 * GRADIENT, -5e-4 * np.sign(GRADIENT), -0.05 * GRADIENT


def first_update(optimizer: optax.GradientTransformation) -> dict[str, np.ndarray]:
    gradients = {
        "encoder": {"kernel": GRADIENT},
        "cluster_classifier": {"hidden": {"kernel": GRADIENT}, "output": {"kernel": GRADIENT}},
        "attribute_regressor": {"hidden": {"kernel": GRADIENT}, "output": {"kernel": GRADIENT}},
    }
    updates, _ = optimizer.update(gradients, optimizer.init(PARAMS), PARAMS)
    return {
        "encoder": updates["encoder"]["kernel"],
        "classifier": updates["cluster_classifier"]["hidden"]["kernel"],
        "head": updates["cluster_classifier"]["output"]["kernel"],
        "regressor": updates["attribute_regressor"]["output"]["kernel"],
    }


@pytest.mark.parametrize(
    ("optimizer", "expected"),
    [
        (
            stage_one_optimizer(OptimizerConfig()).transformation,
            {"encoder": SGD, "classifier": SGD, "head": HEAD, "regressor": 0},
        ),
        (
            stage_two_optimizer(OptimizerConfig()).transformation,
            {"encoder": SGD + ADAM, "classifier": SGD + ADAM, "head": HEAD, "regressor": SGD + ADAM},
        ),
        (
            stage_two_optimizer(OptimizerConfig(freeze_regressor=True)).transformation,
            {"encoder": SGD + ADAM, "classifier": SGD + ADAM, "head": HEAD, "regressor": 0},
        ),
    ],
    ids=["stage1", "stage2", "stage2-frozen"],
)
def test_first_update(optimizer: optax.GradientTransformation, expected: dict[str, np.ndarray | int]) -> None:
    updates = first_update(optimizer)
    for name, value in expected.items():
        np.testing.assert_allclose(updates[name], np.broadcast_to(value, 3), rtol=1e-5, atol=1e-12, err_msg=name)
