"""DeepEmoCluster's network: one encoder, a cluster classifier and an attribute regressor (paper, figure 1)."""

from __future__ import annotations

from typing import NamedTuple

import flax.linen as nn
from jaxtyping import Array, Float

from emocluster_jax.config import ModelConfig
from emocluster_jax.models.encoder import DENSE_WIDTH, Encoder, scaled_width
from emocluster_jax.models.head import Head
from emocluster_jax.models.network import Network


class EmoClusterOutput(NamedTuple):
    """What the network says of n chunks; E is the (scaled) dense width, K the clusters, A the attributes.

    Attributes:
      shared: output of the shared layer, after ReLU and dropout.
      embeddings: the cluster classifier's hidden layer before its ReLU; this is what K-means clusters.
      cluster_logits: scores of the K pseudo-labels.
      attributes: predicted attributes in z-normalised label units.
    """

    shared: Float[Array, "n E"]
    embeddings: Float[Array, "n E"]
    cluster_logits: Float[Array, "n K"]
    attributes: Float[Array, "n A"]


class EmoCluster(nn.Module):
    """The network of Lin, Sridhar & Busso (ICASSP 2021).

    Attributes:
      config: widths, number of clusters and of attributes.
      axis_name: the mapped axis over which batch statistics are shared in training; None on a single device.
    """

    config: ModelConfig
    axis_name: str | None = None

    @nn.compact
    def __call__(self, chunks: Float[Array, "n time mel"], *, train: bool = False) -> EmoClusterOutput:
        """Runs the network on normalised chunks; in training it needs a "dropout" key and updates "batch_stats"."""
        width = scaled_width(DENSE_WIDTH, self.config)
        shared = Encoder(self.config, self.axis_name, name="encoder")(chunks, train=train)
        embeddings, logits = Head(width, self.config.clusters, name="cluster_classifier")(shared)
        _, attributes = Head(width, len(self.config.attributes), name="attribute_regressor")(shared)
        return EmoClusterOutput(shared, embeddings, logits, attributes)


NETWORK = Network(EmoCluster, "DeepEmoCluster", clusters=True)
