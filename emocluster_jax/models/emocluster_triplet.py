"""DeepEmoCluster whose shared layer learns which chunks of a recording are close: the Temp-Triplet of Lin & Busso.

W.-C. Lin and C. Busso, "Deep temporal clustering features for speech emotion recognition", Speech Communication 157,
2024.
"""

from __future__ import annotations

import flax.linen as nn
from jaxtyping import Array, Float

from emocluster_jax.feed.split import Inputs
from emocluster_jax.models.emocluster import EmoCluster

NEAR = 2
"""Chunks that are at most so many apart are close, and others are not."""


class EmoClusterTriplet(EmoCluster):
    """Temp-Triplet: the network of DeepEmoCluster without dropout in the shared layer, whose outputs are compared."""

    title = "DeepEmoCluster Temp-Triplet"
    whole_recordings = True
    least_chunks = NEAR + 2

    def encode(self, inputs: Inputs, *, train: bool) -> Float[Array, "n E"]:
        return nn.relu(self.embed(inputs, train=train))


NETWORK = EmoClusterTriplet
