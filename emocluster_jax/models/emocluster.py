"""DeepEmoCluster's network: one encoder, a cluster classifier and an attribute regressor (paper, figure 1)."""

from __future__ import annotations

import flax.linen as nn
from jax import lax
from jaxtyping import Array, Float

from emocluster_jax.feed.split import AUDIO, Inputs
from emocluster_jax.models.encoder import DENSE_WIDTH, scaled_width
from emocluster_jax.models.network import Head, Network, Output


class EmoCluster(Network):
    """The network of Lin, Sridhar & Busso (ICASSP 2021), and the base of its relatives that look across chunks.

    The embeddings are the cluster classifier's hidden layer before its ReLU. `extras` has `shared` (n, E), the shared
    layer's output after ReLU and dropout, and `detached_logits` (n, K): equal to the cluster logits, but their gradient
    ends at the classifier.
    """

    title = "DeepEmoCluster"
    clusters = True

    @nn.compact
    def __call__(self, inputs: Inputs, *, train: bool = False) -> Output:
        shared = self.encode(inputs, train=train)
        recordings, chunks = inputs[AUDIO].shape[:2]
        read = self.over_chunks(shared.reshape(recordings, chunks, -1), train=train).reshape(shared.shape)
        classifier = Head(scaled_width(DENSE_WIDTH, self.config), self.config.clusters, name="cluster_classifier")
        embeddings, logits = classifier(read)
        _, detached = classifier(lax.stop_gradient(read))
        return Output(embeddings, self.regress(read), logits, {"shared": shared, "detached_logits": detached})

    def over_chunks(
        self, shared: Float[Array, "recordings chunks E"], *, train: bool
    ) -> Float[Array, "recordings chunks E"]:
        """What both heads read, chunk by chunk: the shared layer's output, or what a temporal network makes of it."""
        return shared


NETWORK = EmoCluster
