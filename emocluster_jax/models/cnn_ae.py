"""An autoencoder with the attribute regressor on its code."""

from __future__ import annotations

import flax.linen as nn

from emocluster_jax.feed.split import AUDIO, Inputs
from emocluster_jax.models.decoder import Decoder
from emocluster_jax.models.network import Network, Output, chunks_of


class CnnAutoencoder(Network):
    """The paper's CNN-AE; its embeddings are the code, the shared layer's output.

    `extras` has `reconstruction` (n, time, mel), the chunks decoded from the code.
    """

    title = "CNN-AE"

    @nn.compact
    def __call__(self, inputs: Inputs, *, train: bool = False) -> Output:
        code = self.encoder(chunks_of(inputs), train=train)
        attributes = self.regress(code)
        decoder = Decoder(self.config, self.axis_name, name="decoder")
        return Output(code, attributes, extras={"reconstruction": decoder(code, *inputs[AUDIO].shape[2:], train=train)})


NETWORK = CnnAutoencoder
