"""What all networks share: settings, inputs, the encoder and the heads on top of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, NamedTuple

import flax.linen as nn
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Float32

from emocluster_jax.config import Features, ModelConfig
from emocluster_jax.corpora.inputs import FurtherInputs
from emocluster_jax.feed.split import AUDIO, Inputs, mask_name
from emocluster_jax.models.encoder import DENSE_WIDTH, Encoder, dense_init, scaled_width
from emocluster_jax.models.fusion import Fusion


class Output(NamedTuple):
    """A network's output for n chunks; E is the (scaled) dense width, K the clusters, A the attributes.

    Attributes:
      embeddings: represent the chunks for users, and are what K-means clusters.
      attributes: predicted attributes in z-normalised label units.
      cluster_logits: scores of the K pseudo-labels; None for networks without a cluster classifier.
      extras: by name, whatever else the network's objective reads.
    """

    embeddings: Float[Array, "n E"]
    attributes: Float[Array, "n A"]
    cluster_logits: Float[Array, "n K"] | None = None
    extras: Mapping[str, Array] = {}


class Head(nn.Module):
    """Dense, ReLU, dense; the hidden layer is returned before its ReLU."""

    width: int
    outputs: int

    @nn.compact
    def __call__(self, shared: Float[Array, "n e"]) -> tuple[Float[Array, "n w"], Float[Array, "n o"]]:
        hidden = nn.Dense(self.width, kernel_init=dense_init, name="hidden")(shared)
        return hidden, nn.Dense(self.outputs, kernel_init=dense_init, name="output")(nn.relu(hidden))


class Network(nn.Module):
    """A network that can be trained: (inputs, train) -> `Output`.

    Inputs are arrays by name, with a row per recording: "audio" (r, C, time, mel), and with their masks those that
    `config.inputs` names, (r, dims) or (r, C, frames, dims); see `chunks_of` and `feed.split.per_chunk`. A batch of n
    drawn chunks is n recordings of one chunk each. The output has a row per chunk, n = r · C. Training needs "dropout"
    and "noise" keys and updates "batch_stats".

    Attributes:
      config: widths, number of clusters and of attributes.
      axis_name: the mapped axis over which batch statistics are shared in training; None on a single device.
      train_layers: `config.OptimizerConfig.train_layers`.
      title: the network's name in tables and on pages.
      clusters: whether it has a cluster classifier: then the output has `cluster_logits`, and each stage begins with
        K-means and trains on its clusters as pseudo-labels.
      objective: the system that it is trained as, by its module in `objectives`; empty for one of its own name.
      whole_recordings: whether batches are made of recordings with all of their chunks in order, for networks and
        losses that look across chunks.
      across_chunks: whether what it makes of a chunk depends on the other chunks of the recording.
      least_chunks: how many chunks a recording needs for it.
    """

    config: ModelConfig
    axis_name: str | None = None
    train_layers: str = "all"

    title: ClassVar[str]
    clusters: ClassVar[bool] = False
    objective: ClassVar[str] = ""
    whole_recordings: ClassVar[bool] = False
    across_chunks: ClassVar[bool] = False
    least_chunks: ClassVar[int] = 1

    def setup(self) -> None:
        self.encoder = Encoder(self.config, self.axis_name, self.train_layers)
        self.fusion = Fusion(self.config, self.axis_name, self.train_layers) if self.config.inputs else None
        self.attribute_regressor = Head(scaled_width(DENSE_WIDTH, self.config), len(self.config.attributes))

    def embed(self, inputs: Inputs, *, train: bool) -> Float[Array, "n E"]:
        """The shared layer before its ReLU: the encoder's or, with further inputs, the one that fuses all of them."""
        heard = self.encoder.embed(chunks_of(inputs), train=train)
        if self.fusion is None:
            return heard
        fused = self.fusion(heard, inputs, train=train)
        return lax.stop_gradient(fused) if self.train_layers == "heads" else fused

    def encode(self, inputs: Inputs, *, train: bool) -> Float[Array, "n E"]:
        """The shared layer's output, after ReLU and, in training, dropout."""
        return self.encoder.activate(self.embed(inputs, train=train), train=train)

    def regress(self, shared: Float[Array, "n E"]) -> Float[Array, "n A"]:
        """The attribute regressor's predictions."""
        return self.attribute_regressor(shared)[1]


def chunks_of(inputs: Inputs) -> Float[Array, "n time mel"]:
    """The sound's chunks of all recordings, one recording after another."""
    audio = inputs[AUDIO]
    return audio.reshape(-1, *audio.shape[2:])


def example_inputs(features: Features, further: FurtherInputs = ()) -> dict[str, Float32[np.ndarray, "1 ..."]]:
    """Inputs of one recording, all zeros, which networks are initialised on; `further` ones beside the audio."""
    audio = (1, features.chunks_per_utterance, features.chunk_frames, features.dimensions)
    shapes: dict[str, tuple[int, ...]] = {AUDIO: audio}
    for given in further:
        shapes |= {given.name: (1, *given.shape(features)), mask_name(given.name): (1,)}
    return {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}
