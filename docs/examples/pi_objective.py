"""What the Π-model minimises: the mean squared difference of its two predictions, and with labels the CCC loss."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from emocluster_jax.config import TrainConfig
from emocluster_jax.objectives.optimizers import adam
from emocluster_jax.objectives.stage import Batch, Stages, Terms, semi_supervised_stages


def stages(network: nn.Module, config: TrainConfig, axis_name: str | None) -> Stages:
    def objective(output: Any, batch: Batch) -> tuple[Float[Array, ""], Terms]:
        disagreement = jnp.mean(output.extras["difference"] ** 2)
        return disagreement, {"disagreement": disagreement}

    optimizer = adam(config.optimizer)
    return semi_supervised_stages(network, config, axis_name, objective, (optimizer, optimizer))
