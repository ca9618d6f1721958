"""The encoder with the attribute regressor and a decoder: an autoencoder whose code tells the attributes, too."""

from __future__ import annotations

from typing import NamedTuple

import flax.linen as nn
from jaxtyping import Array, Float

from emocluster_jax.config import ModelConfig
from emocluster_jax.models.decoder import Decoder
from emocluster_jax.models.encoder import DENSE_WIDTH, Encoder, scaled_width
from emocluster_jax.models.head import Head
from emocluster_jax.models.network import Network


class CnnAutoencoderOutput(NamedTuple):
    """What the network says of n chunks.

    Attributes:
      embeddings: the code, which is the output of the shared layer, after ReLU and dropout.
      attributes: predicted attributes in z-normalised label units.
      reconstruction: the chunks as the decoder makes them from the code.
    """

    embeddings: Float[Array, "n E"]
    attributes: Float[Array, "n A"]
    reconstruction: Float[Array, "n time mel"]


class CnnAutoencoder(nn.Module):
    """The paper's CNN-AE.

    Attributes:
      config: widths and number of attributes.
      axis_name: the mapped axis over which batch statistics are shared in training; None on a single device.
    """

    config: ModelConfig
    axis_name: str | None = None

    @nn.compact
    def __call__(self, chunks: Float[Array, "n time mel"], *, train: bool = False) -> CnnAutoencoderOutput:
        """Runs the network on normalised chunks; in training it needs a "dropout" key and updates "batch_stats"."""
        width = scaled_width(DENSE_WIDTH, self.config)
        code = Encoder(self.config, self.axis_name, name="encoder")(chunks, train=train)
        _, attributes = Head(width, len(self.config.attributes), name="attribute_regressor")(code)
        decoder = Decoder(self.config, self.axis_name, name="decoder")
        return CnnAutoencoderOutput(code, attributes, decoder(code, *chunks.shape[1:], train=train))


NETWORK = Network(CnnAutoencoder, "CNN-AE")
