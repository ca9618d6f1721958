"""The CNN-regressor with a second input: `text`, a vector that a text encoder made of what was said."""

from __future__ import annotations

import flax.linen as nn

from emocluster_jax.feed.split import AUDIO, Inputs, mask_name
from emocluster_jax.models.encoder import dense_init
from emocluster_jax.models.network import Network, Output, chunks_of, per_chunk


class TextRegressor(Network):
    title = "CNN-regressor with text"
    inputs = (AUDIO, "text")
    objective = "cnn_regressor"

    @nn.compact
    def __call__(self, inputs: Inputs, *, train: bool = False) -> Output:
        heard = self.encoder(chunks_of(inputs), train=train)
        read = nn.Dense(heard.shape[1], kernel_init=dense_init, name="text")(per_chunk(inputs, "text"))
        shared = heard + per_chunk(inputs, mask_name("text"))[:, None] * read
        return Output(shared, self.regress(shared))


NETWORK = TextRegressor
