"""Several inputs as one: what encoders make of each is fused into the numbers that everything behind them reads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float32

from emocluster_jax.config import ModelConfig
from emocluster_jax.feed.split import AUDIO, Inputs, per_chunk, presence
from emocluster_jax.models.encoder import DENSE_WIDTH, dense_init, scaled_width

FUSION = "fusion"
"""The module's name in networks."""
MOST_DEVIATIONS = 10.0
"""What vectors are clipped to: a number that hardly varied in training would drown all others where it does."""

VectorStatistics = tuple[Float32[np.ndarray, " dims"], Float32[np.ndarray, " dims"]]
"""Mean and deviation of each of a vector's numbers."""


class VectorEncoder(nn.Module):
    """Dense, ReLU, dense on vectors, which are normalised by the training split's statistics.

    These are "mean" and "std" in "batch_stats", 0 and 1 unless `with_statistics` sets them; no step changes them.
    """

    width: int

    @nn.compact
    def __call__(self, vectors: Float[Array, "recordings dims"]) -> Float[Array, "recordings width"]:
        mean = self.variable("batch_stats", "mean", jnp.zeros, vectors.shape[1:])
        std = self.variable("batch_stats", "std", jnp.ones, vectors.shape[1:])
        x = ((vectors - mean.value) / std.value).clip(-MOST_DEVIATIONS, MOST_DEVIATIONS)
        # He's initialisation keeps the scale of what passes through, for vectors of any length.
        return self._dense("dense_1")(nn.relu(self._dense("dense_0")(x)))

    def _dense(self, name: str) -> nn.Dense:
        return nn.Dense(self.width, kernel_init=nn.initializers.he_normal(), name=name)


class Fusion(nn.Module):
    """A dense layer over what is made of the audio and of each of `config.inputs`, as many numbers of each.

    A vector stands beside every chunk of its recording. In place of what a recording lacks, as the inputs' masks say,
    stand numbers that are learned, the same for all recordings.
    """

    config: ModelConfig

    @nn.compact
    def __call__(self, heard: Float[Array, "n E"], inputs: Inputs) -> Float[Array, "n E"]:
        """The fused numbers before their ReLU; `heard` is the encoder's last layer before its ReLU, for every chunk."""
        width = scaled_width(DENSE_WIDTH, self.config)
        found = {AUDIO: heard}
        for name in self.config.inputs:
            found[name] = per_chunk(VectorEncoder(width, name=f"encoder_{name}")(inputs[name]), inputs)
        parts = [self._or_stand_in(name, nn.relu(numbers), inputs) for name, numbers in found.items()]
        return nn.Dense(width, kernel_init=dense_init, name="shared")(jnp.concatenate(parts, axis=1))

    def _or_stand_in(self, name: str, numbers: Float[Array, "n E"], inputs: Inputs) -> Float[Array, "n E"]:
        stand_in = self.param(f"stand_in_{name}", nn.initializers.zeros, numbers.shape[1:])
        return jnp.where(per_chunk(presence(inputs, name), inputs)[:, None] > 0, numbers, stand_in)


def with_statistics(batch_stats: Mapping[str, Any], statistics: Mapping[str, VectorStatistics]) -> dict[str, Any]:
    """The "batch_stats" of a network that fuses, with the statistics of its further inputs by name."""
    encoders = {f"encoder_{name}": {"mean": mean, "std": std} for name, (mean, std) in statistics.items()}
    return {**batch_stats, FUSION: encoders}
