"""The Π-model (Laine & Aila, ICLR 2017): predictions under two dropout masks should agree, with labels or without."""

from __future__ import annotations

import flax.linen as nn

from emocluster_jax.feed.split import Inputs
from emocluster_jax.models.network import Network, Output, chunks_of


class PiModel(Network):
    title = "Π-model"

    @nn.compact
    def __call__(self, inputs: Inputs, *, train: bool = False) -> Output:
        shared, again = (self.encoder(chunks_of(inputs), train=train) for _ in range(2))
        attributes, others = self.regress(shared), self.regress(again)
        return Output(shared, attributes, extras={"difference": attributes - others})


NETWORK = PiModel
