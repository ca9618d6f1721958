"""DeepEmoCluster with convolutions over a recording's chunks: the Temp-CNN of Lin & Busso.

W.-C. Lin and C. Busso, "Deep temporal clustering features for speech emotion recognition", Speech Communication 157,
2024.
"""

from __future__ import annotations

import flax.linen as nn
from jaxtyping import Array, Float

from emocluster_jax.config import ModelConfig
from emocluster_jax.models.emocluster import EmoCluster
from emocluster_jax.models.encoder import NORM_EPSILON, NORM_MOMENTUM, convolution_init, scaled_width

CHANNELS = 16
"""Between the two convolutions."""
KERNEL_SIZE = 5


class ChunkConvolutions(nn.Module):
    """Two 5x5 convolutions of a recording as an image of one channel, chunks by numbers; then dropout.

    Batch normalisation and ReLU follow each; they have no bias, which batch normalisation would cancel. Batch
    statistics are shared over the mapped axis `axis_name` in training; None on a single device.
    """

    config: ModelConfig
    axis_name: str | None = None

    @nn.compact
    def __call__(
        self, shared: Float[Array, "recordings chunks E"], *, train: bool
    ) -> Float[Array, "recordings chunks E"]:
        x = shared[..., None]
        for i, channels in enumerate((scaled_width(CHANNELS, self.config), 1)):
            convolution = nn.Conv(
                channels,
                (KERNEL_SIZE, KERNEL_SIZE),
                padding=KERNEL_SIZE // 2,
                use_bias=False,
                kernel_init=convolution_init,
                name=f"convolution_{i}",
            )
            norm = nn.BatchNorm(
                use_running_average=not train,
                momentum=NORM_MOMENTUM,
                epsilon=NORM_EPSILON,
                axis_name=self.axis_name,
                name=f"norm_{i}",
            )
            x = nn.relu(norm(convolution(x)))
        return nn.Dropout(self.config.temporal_dropout_rate, deterministic=not train)(x[..., 0])


class EmoClusterCnn(EmoCluster):
    """Temp-CNN: both heads read the outputs of convolutions over chunks and numbers."""

    title = "DeepEmoCluster Temp-CNN"
    objective = "emocluster"
    whole_recordings = across_chunks = True

    def over_chunks(
        self, shared: Float[Array, "recordings chunks E"], *, train: bool
    ) -> Float[Array, "recordings chunks E"]:
        return ChunkConvolutions(self.config, self.axis_name, name="temporal")(shared, train=train)


NETWORK = EmoClusterCnn
