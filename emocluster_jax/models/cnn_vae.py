"""The encoder with the attribute regressor and a decoder as a variational autoencoder (Kingma & Welling 2014)."""

from __future__ import annotations

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from emocluster_jax.config import ModelConfig
from emocluster_jax.models.decoder import Decoder
from emocluster_jax.models.encoder import DENSE_WIDTH, Encoder, dense_init, scaled_width
from emocluster_jax.models.head import Head
from emocluster_jax.models.network import Network


class CnnVariationalAutoencoderOutput(NamedTuple):
    """What the network says of n chunks.

    Attributes:
      embeddings: mean of the code's distribution.
      log_variance: logarithm of its variance, dimension by dimension.
      attributes: predicted attributes in z-normalised label units, read from the code.
      reconstruction: the chunks as the decoder makes them from the code.
    """

    embeddings: Float[Array, "n E"]
    log_variance: Float[Array, "n E"]
    attributes: Float[Array, "n A"]
    reconstruction: Float[Array, "n time mel"]


class CnnVariationalAutoencoder(nn.Module):
    """The paper's CNN-VAE. Its code is Gaussian: a sample of it in training, its mean otherwise.

    Attributes:
      config: widths and number of attributes.
      axis_name: the mapped axis over which batch statistics are shared in training; None on a single device.
    """

    config: ModelConfig
    axis_name: str | None = None

    @nn.compact
    def __call__(self, chunks: Float[Array, "n time mel"], *, train: bool = False) -> CnnVariationalAutoencoderOutput:
        """Runs the network on chunks; in training it needs "dropout" and "noise" keys and updates "batch_stats"."""
        width = scaled_width(DENSE_WIDTH, self.config)
        shared = Encoder(self.config, self.axis_name, name="encoder")(chunks, train=train)
        mean = nn.Dense(width, kernel_init=dense_init, name="code_mean")(shared)
        log_variance = nn.Dense(width, kernel_init=dense_init, name="code_log_variance")(shared)
        code = mean
        if train:
            code += jnp.exp(log_variance / 2) * jax.random.normal(self.make_rng("noise"), mean.shape)
        _, attributes = Head(width, len(self.config.attributes), name="attribute_regressor")(code)
        decoder = Decoder(self.config, self.axis_name, name="decoder")
        reconstruction = decoder(code, *chunks.shape[1:], train=train)
        return CnnVariationalAutoencoderOutput(mean, log_variance, attributes, reconstruction)


NETWORK = Network(CnnVariationalAutoencoder, "CNN-VAE")
