"""The paper's CNN-regressor: the CCC loss alone, by Adam, on plainly shuffled batches of labelled recordings."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
from jaxtyping import Array, Float

from emocluster_jax.config import TrainConfig
from emocluster_jax.objectives.losses import ccc_loss
from emocluster_jax.objectives.optimizers import adam
from emocluster_jax.objectives.stage import Batch, Stage, Stages, Terms, training_loss


def stages(network: nn.Module, config: TrainConfig, axis_name: str | None) -> Stages:
    """One stage, on the labelled recordings."""

    def objective(output: Any, batch: Batch) -> tuple[Float[Array, ""], Terms]:
        concordance = ccc_loss(output.attributes, batch.targets, axis_name)
        return concordance, {"ccc_loss": concordance}

    return Stages(None, Stage("stage2", training_loss(network, objective), *adam(config.optimizer)))
