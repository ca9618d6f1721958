"""The encoder with the attribute regressor alone: what every other system is measured against."""

from __future__ import annotations

from typing import NamedTuple

import flax.linen as nn
from jaxtyping import Array, Float

from emocluster_jax.config import ModelConfig
from emocluster_jax.models.encoder import DENSE_WIDTH, Encoder, scaled_width
from emocluster_jax.models.head import Head
from emocluster_jax.models.network import Network


class CnnRegressorOutput(NamedTuple):
    """What the network says of n chunks.

    Attributes:
      embeddings: output of the shared layer, after ReLU and dropout.
      attributes: predicted attributes in z-normalised label units.
    """

    embeddings: Float[Array, "n E"]
    attributes: Float[Array, "n A"]


class CnnRegressor(nn.Module):
    """The paper's CNN-regressor.

    Attributes:
      config: widths and number of attributes.
      axis_name: the mapped axis over which batch statistics are shared in training; None on a single device.
    """

    config: ModelConfig
    axis_name: str | None = None

    @nn.compact
    def __call__(self, chunks: Float[Array, "n time mel"], *, train: bool = False) -> CnnRegressorOutput:
        """Runs the network on normalised chunks; in training it needs a "dropout" key and updates "batch_stats"."""
        width = scaled_width(DENSE_WIDTH, self.config)
        shared = Encoder(self.config, self.axis_name, name="encoder")(chunks, train=train)
        _, attributes = Head(width, len(self.config.attributes), name="attribute_regressor")(shared)
        return CnnRegressorOutput(shared, attributes)


NETWORK = Network(CnnRegressor, "CNN-regressor")
