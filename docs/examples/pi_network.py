"""The Π-model (Laine & Aila, ICLR 2017): predictions under two dropout masks should agree, with labels or without."""

from __future__ import annotations

from typing import NamedTuple

import flax.linen as nn
from jaxtyping import Array, Float

from emocluster_jax.config import ModelConfig
from emocluster_jax.models.encoder import DENSE_WIDTH, Encoder, scaled_width
from emocluster_jax.models.head import Head
from emocluster_jax.models.network import Network


class PiModelOutput(NamedTuple):
    embeddings: Float[Array, "n E"]
    attributes: Float[Array, "n A"]
    disagreement: Float[Array, "n A"]


class PiModel(nn.Module):
    config: ModelConfig
    axis_name: str | None = None

    @nn.compact
    def __call__(self, chunks: Float[Array, "n time mel"], *, train: bool = False) -> PiModelOutput:
        encoder = Encoder(self.config, self.axis_name, name="encoder")
        width = scaled_width(DENSE_WIDTH, self.config)
        regressor = Head(width, len(self.config.attributes), name="attribute_regressor")
        shared, again = (encoder(chunks, train=train) for _ in range(2))
        (_, attributes), (_, others) = regressor(shared), regressor(again)
        return PiModelOutput(shared, attributes, attributes - others)


NETWORK = Network(PiModel, "Π-model")
