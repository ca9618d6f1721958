"""A variational autoencoder (Kingma & Welling 2014) with the attribute regressor on its code."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp

from emocluster_jax.feed.split import AUDIO, Inputs
from emocluster_jax.models.decoder import Decoder
from emocluster_jax.models.encoder import DENSE_WIDTH, dense_init, scaled_width
from emocluster_jax.models.network import Network, Output, chunks_of


class CnnVariationalAutoencoder(Network):
    """The paper's CNN-VAE; the code is sampled in training and is its mean otherwise, as are the embeddings.

    `extras` has `log_variance` (n, E) of the code and `reconstruction` (n, time, mel), the chunks decoded from it.
    """

    title = "CNN-VAE"

    @nn.compact
    def __call__(self, inputs: Inputs, *, train: bool = False) -> Output:
        width = scaled_width(DENSE_WIDTH, self.config)
        shared = self.encoder(chunks_of(inputs), train=train)
        mean = nn.Dense(width, kernel_init=dense_init, name="code_mean")(shared)
        log_variance = nn.Dense(width, kernel_init=dense_init, name="code_log_variance")(shared)
        code = mean
        if train:
            code += jnp.exp(log_variance / 2) * jax.random.normal(self.make_rng("noise"), mean.shape)
        attributes = self.regress(code)
        decoder = Decoder(self.config, self.axis_name, name="decoder")
        reconstruction = decoder(code, *inputs[AUDIO].shape[2:], train=train)
        return Output(mean, attributes, extras={"log_variance": log_variance, "reconstruction": reconstruction})


NETWORK = CnnVariationalAutoencoder
