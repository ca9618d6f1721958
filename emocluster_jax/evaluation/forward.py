"""The network in evaluation mode over a split that lies on the devices."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from emocluster_jax import parallel
from emocluster_jax.config import ModelConfig
from emocluster_jax.feed.resident import ResidentSplit
from emocluster_jax.models.emocluster import EmoCluster
from emocluster_jax.models.encoder import DENSE_WIDTH, scaled_width
from emocluster_jax.segments import in_segments

CPU_BLOCK = 8
ACCELERATOR_BLOCK = 2_048


class Outputs(NamedTuple):
    """What the network in evaluation mode says of every chunk of a split, device by device.

    Attributes:
      embeddings: (..., E) float32, what K-means clusters.
      attributes: (..., A) float32, in z-normalised label units.
    """

    embeddings: Float[Array, "... E"]
    attributes: Float[Array, "... A"]


@dataclass(frozen=True)
class Forward:
    """Runs a network in evaluation mode over splits; compiled once a split's shape.

    Attributes:
      config: the network's settings.
      block: chunks that a device takes at once: what stays in a CPU's cache, or what fills an accelerator.
      program: (variables, chunks, outputs, first block, past the last block) -> outputs with these blocks filled in;
        the given outputs are used up.
    """

    config: ModelConfig
    block: int
    program: Callable[..., Outputs]

    def __call__(self, variables: Any, split: ResidentSplit, advance: Callable[[int], None]) -> Outputs:
        """What the network says of every chunk.

        Args:
          variables: of the network, on every device.
          split: the chunks.
          advance: told, now and then, how many more chunks are done.
        """
        devices = split.chunks.shape[0]
        per_device = split.chunks.shape[1] * split.chunks_per_utterance
        outputs = Outputs(
            parallel.zeros((per_device, scaled_width(DENSE_WIDTH, self.config))),
            parallel.zeros((per_device, len(self.config.attributes))),
        )

        def segment(first: int, last: int) -> None:
            nonlocal outputs
            outputs = self.program(variables, split.chunks, outputs, first, last)
            outputs.attributes.block_until_ready()
            done = min(last * self.block, per_device) - first * self.block
            advance(done * devices)

        in_segments(-(-per_device // self.block), segment)
        return outputs


def make_forward(config: ModelConfig) -> Forward:
    """The compiled forward pass of the network that `config` describes."""
    model = EmoCluster(config)
    block = CPU_BLOCK if jax.default_backend() == "cpu" else ACCELERATOR_BLOCK

    def run(variables: Any, chunks: Array, outputs: Outputs, first: Array, last: Array) -> Outputs:
        flat = chunks.reshape(-1, *chunks.shape[2:])
        size = min(block, flat.shape[0])

        def body(i: Array, filled: Outputs) -> Outputs:
            # The last block starts early enough to be full; what it computes twice comes out the same.
            start = jnp.minimum(i * size, flat.shape[0] - size)
            output: Any = model.apply(variables, lax.dynamic_slice_in_dim(flat, start, size).astype(jnp.float32))
            return Outputs(
                lax.dynamic_update_slice_in_dim(filled.embeddings, output.embeddings, start, 0),
                lax.dynamic_update_slice_in_dim(filled.attributes, output.attributes, start, 0),
            )

        return lax.fori_loop(first, last, body, outputs)

    program = parallel.parallel(run, arguments=5, replicated_arguments=(3, 4), donated_arguments=(2,))
    return Forward(config, block, program)


def chunk_attributes(outputs: Outputs, split: ResidentSplit) -> Float[np.ndarray, "utterances chunks A"]:
    """The predicted attributes of all recordings of all processes, in z-normalised label units."""
    per_device = outputs.attributes.reshape(*split.chunks.shape[:3], -1)
    return parallel.collect(per_device, split.utterances)
