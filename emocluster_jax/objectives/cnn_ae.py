"""The paper's CNN-AE: reconstruction error and CCC loss, by Adam, on plainly shuffled batches."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
from jaxtyping import Array, Float

from emocluster_jax.config import TrainConfig
from emocluster_jax.objectives.losses import reconstruction_error
from emocluster_jax.objectives.stage import Batch, Stages, Terms, semi_supervised_stages


def stages(network: nn.Module, config: TrainConfig, axis_name: str | None) -> Stages:
    """`reconstruction_weight` times the reconstruction error, with labels also `ccc_weight` times the CCC loss."""

    def objective(output: Any, batch: Batch) -> tuple[Float[Array, ""], Terms]:
        error = reconstruction_error(output.extras["reconstruction"], batch.chunks)
        return config.autoencoder.reconstruction_weight * error, {"reconstruction": error}

    return semi_supervised_stages(network, config, axis_name, objective)
