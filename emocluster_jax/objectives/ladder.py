"""The ladder network: weighted denoising costs and CCC loss, by Adam, on plainly shuffled batches."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from emocluster_jax.config import TrainConfig
from emocluster_jax.objectives.stage import Batch, Stages, Terms, semi_supervised_stages


def stages(network: nn.Module, config: TrainConfig, axis_name: str | None) -> Stages:
    """The weighted sum of the levels' denoising costs, with labels also `ccc_weight` times the CCC loss."""
    weights = config.ladder.denoising_weights

    def objective(output: Any, batch: Batch) -> tuple[Float[Array, ""], Terms]:
        denoising = jnp.sum(jnp.asarray(weights) * output.extras["denoising_costs"])
        return denoising, {"denoising": denoising}

    return semi_supervised_stages(network, config, axis_name, objective, noise_std=config.ladder.noise_std)
