"""Several inputs as one: what encoders make of each is fused into the numbers that everything behind them reads."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float32

from emocluster_jax.config import ModelConfig
from emocluster_jax.feed.split import AUDIO, Inputs, is_chunked, per_chunk, presence
from emocluster_jax.models.encoder import DENSE_WIDTH, Encoder, dense_init, scaled_width

FUSION = "fusion"
"""The module's name in networks."""
MOST_DEVIATIONS = 10.0
"""What further inputs are clipped to: a number that hardly varied in training would drown all others where it does."""

InputStatistics = tuple[Float32[np.ndarray, " dims"], Float32[np.ndarray, " dims"]]
"""Mean and deviation of each number of an input's vectors, or frames."""


def normalized(module: nn.Module, rows: Float[Array, "... dims"]) -> Float[Array, "... dims"]:
    """Vectors or frames normalised by the training split's statistics.

    These are "mean" and "std" in the module's "batch_stats", 0 and 1 unless `with_statistics` sets them; no step
    changes them.
    """
    mean = module.variable("batch_stats", "mean", jnp.zeros, rows.shape[-1:])
    std = module.variable("batch_stats", "std", jnp.ones, rows.shape[-1:])
    return ((rows - mean.value) / std.value).clip(-MOST_DEVIATIONS, MOST_DEVIATIONS)


class VectorEncoder(nn.Module):
    """Dense, ReLU, dense on vectors, which are normalised."""

    width: int

    @nn.compact
    def __call__(self, vectors: Float[Array, "recordings dims"]) -> Float[Array, "recordings width"]:
        x = normalized(self, vectors)
        # He's initialisation keeps the scale of what passes through, for vectors of any length.
        return self._dense("dense_1")(nn.relu(self._dense("dense_0")(x)))

    def _dense(self, name: str) -> nn.Dense:
        return nn.Dense(self.width, kernel_init=nn.initializers.he_normal(), name=name)


class FrameEncoder(nn.Module):
    """The convolutional encoder, with weights of its own, on chunks of frames, which are normalised.

    What a recording lacks is 0 there, the mean, and so are its shares of the batch's moments.
    """

    config: ModelConfig
    axis_name: str | None
    train_layers: str

    @nn.compact
    def __call__(
        self, frames: Float[Array, "n time dims"], present: Float[Array, " n"], *, train: bool
    ) -> Float[Array, "n E"]:
        x = jnp.where(present[:, None, None] > 0, normalized(self, frames), 0.0)
        return Encoder(self.config, self.axis_name, self.train_layers, name="encoder").embed(x, train=train)


class Fusion(nn.Module):
    """A dense layer over what is made of the audio and of each of `config.inputs`, as many numbers of each.

    A vector stands beside every chunk of its recording. In place of what a recording lacks, as the inputs' masks say,
    stand numbers that are learned, the same for all recordings. The other attributes are those of `network.Network`.
    """

    config: ModelConfig
    axis_name: str | None = None
    train_layers: str = "all"

    @nn.compact
    def __call__(self, heard: Float[Array, "n E"], inputs: Inputs, *, train: bool) -> Float[Array, "n E"]:
        """The fused numbers before their ReLU; `heard` is the encoder's last layer before its ReLU, for every chunk."""
        width = scaled_width(DENSE_WIDTH, self.config)
        found = {AUDIO: heard, **{name: self._encoded(name, width, inputs, train) for name in self.config.inputs}}
        parts = [self._or_stand_in(name, nn.relu(numbers), inputs) for name, numbers in found.items()]
        return nn.Dense(width, kernel_init=dense_init, name="shared")(jnp.concatenate(parts, axis=1))

    def _encoded(self, name: str, width: int, inputs: Inputs, train: bool) -> Float[Array, "n E"]:
        """What its encoder makes of a further input, for every chunk."""
        rows, module = inputs[name], f"encoder_{name}"
        if not is_chunked(rows):
            return per_chunk(VectorEncoder(width, name=module)(rows), inputs)
        # The fused kernels are of the sizes of mel spectrograms.
        config = dataclasses.replace(self.config, convolutions="library")
        encoder = FrameEncoder(config, self.axis_name, self.train_layers, name=module)
        return encoder(rows.reshape(-1, *rows.shape[2:]), per_chunk(presence(inputs, name), inputs), train=train)

    def _or_stand_in(self, name: str, numbers: Float[Array, "n E"], inputs: Inputs) -> Float[Array, "n E"]:
        stand_in = self.param(f"stand_in_{name}", nn.initializers.zeros, numbers.shape[1:])
        return jnp.where(per_chunk(presence(inputs, name), inputs)[:, None] > 0, numbers, stand_in)


def with_statistics(batch_stats: Mapping[str, Any], statistics: Mapping[str, InputStatistics]) -> dict[str, Any]:
    """The "batch_stats" of a network that fuses, with the statistics of its further inputs by name."""
    encoders = dict(batch_stats[FUSION])
    for name, (mean, std) in statistics.items():
        encoders[f"encoder_{name}"] = {**encoders[f"encoder_{name}"], "mean": mean, "std": std}
    return {**batch_stats, FUSION: encoders}
