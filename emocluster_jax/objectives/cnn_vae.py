"""The paper's CNN-VAE: reconstruction error, KL divergence and CCC loss, by Adam, on plainly shuffled batches.

The reconstruction error is the mean over a chunk's P pixels, and the KL divergence, a sum over the code's dimensions,
is divided by P as well. With both weights 1, their sum is (per pixel and up to a constant) the negative evidence lower
bound of a decoder with Gaussian noise of variance 1/2. So the weights mean the same for chunks and codes of any size,
and a `kl_weight` of β is that of a β-VAE (Higgins et al. 2017).
"""

from __future__ import annotations

from typing import Any

import flax.linen as nn
from jaxtyping import Array, Float

from emocluster_jax.config import TrainConfig
from emocluster_jax.objectives.losses import gaussian_kl, ramp, reconstruction_error
from emocluster_jax.objectives.stage import Batch, Stages, Terms, semi_supervised_stages


def stages(network: nn.Module, config: TrainConfig, axis_name: str | None) -> Stages:
    """The weighted sum; the weight of the KL divergence grows linearly over the first `kl_warmup_epochs`."""
    weights = config.autoencoder

    def objective(output: Any, batch: Batch) -> tuple[Float[Array, ""], Terms]:
        error = reconstruction_error(output.extras["reconstruction"], batch.chunks)
        divergence = gaussian_kl(output.embeddings, output.extras["log_variance"]) / batch.chunks[0].size
        warm = ramp(batch.epochs, weights.kl_warmup_epochs)
        loss = weights.reconstruction_weight * error + weights.kl_weight * warm * divergence
        return loss, {"reconstruction": error, "kl": divergence}

    return semi_supervised_stages(network, config, axis_name, objective)
