"""DeepEmoCluster's network: one encoder, a cluster classifier and an attribute regressor (paper, figure 1)."""

from __future__ import annotations

import flax.linen as nn
from jax import lax

from emocluster_jax.feed.split import AUDIO, Inputs
from emocluster_jax.models.encoder import DENSE_WIDTH, scaled_width
from emocluster_jax.models.network import Head, Network, Output, chunks_of
from emocluster_jax.models.temporal import temporal_of


class EmoCluster(Network):
    """The network of Lin, Sridhar & Busso (ICASSP 2021), optionally with a temporal network before both heads.

    The embeddings are the cluster classifier's hidden layer before its ReLU. `extras` has `shared` (n, E), the shared
    layer's output after ReLU and dropout, and `detached_logits` (n, K): equal to the cluster logits, but their gradient
    ends at the classifier.
    """

    title = "DeepEmoCluster"
    clusters = True

    @nn.compact
    def __call__(self, inputs: Inputs, *, train: bool = False) -> Output:
        shared = read = self.encoder(chunks_of(inputs), train=train)
        if (temporal := temporal_of(self.config, self.axis_name)) is not None:
            recordings, chunks = inputs[AUDIO].shape[:2]
            read = temporal(shared.reshape(recordings, chunks, -1), train=train).reshape(shared.shape)
        classifier = Head(scaled_width(DENSE_WIDTH, self.config), self.config.clusters, name="cluster_classifier")
        embeddings, logits = classifier(read)
        _, detached = classifier(lax.stop_gradient(read))
        return Output(embeddings, self.regress(read), logits, {"shared": shared, "detached_logits": detached})


NETWORK = EmoCluster
