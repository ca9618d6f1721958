"""The network in evaluation mode over a split that lies on the devices."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from emocluster_jax import parallel
from emocluster_jax.config import ModelConfig
from emocluster_jax.feed.resident import ResidentSplit
from emocluster_jax.models.encoder import DENSE_WIDTH, scaled_width
from emocluster_jax.segments import in_segments


class Outputs(NamedTuple):
    """What the network in evaluation mode says of every chunk of a split, device by device.

    Attributes:
      embeddings: (..., E) float32, what K-means clusters.
      attributes: (..., A) float32, in z-normalised label units.
    """

    embeddings: Float[Array, "... E"]
    attributes: Float[Array, "... A"]


def evaluation_program(model: nn.Module, block: int) -> Callable[..., Outputs]:
    """A program that runs the network in evaluation mode over blocks of every device's chunks.

    Args:
      model: the network.
      block: chunks a block: what fits the cache of a CPU, or fills an accelerator.

    Returns:
      (variables, split.chunks, outputs, first block, past the last block) -> outputs with these blocks filled in; the
      given outputs are used up.
    """

    def run(variables: Any, chunks: Array, outputs: Outputs, first: Array, last: Array) -> Outputs:
        flat = chunks.reshape(-1, *chunks.shape[2:])
        size = min(block, flat.shape[0])

        def body(i: Array, filled: Outputs) -> Outputs:
            # The last block starts early enough to be full; what it computes twice comes out the same.
            start = jnp.minimum(i * size, flat.shape[0] - size)
            output = model.apply(variables, lax.dynamic_slice_in_dim(flat, start, size).astype(jnp.float32))
            return Outputs(
                lax.dynamic_update_slice_in_dim(filled.embeddings, output.embeddings, start, 0),
                lax.dynamic_update_slice_in_dim(filled.attributes, output.attributes, start, 0),
            )

        return lax.fori_loop(first, last, body, outputs)

    return parallel.parallel(run, arguments=5, replicated_arguments=(3, 4), donated_arguments=(2,))


def forward_split(
    program: Callable[..., Outputs],
    variables: Any,
    split: ResidentSplit,
    *,
    config: ModelConfig,
    block: int,
    advance: Callable[[int], None],
) -> Outputs:
    """Runs `evaluation_program` over a whole split.

    Args:
      program: compiled for `config` and `block`.
      variables: the network's variables, on every device.
      split: the chunks.
      config: the network's settings.
      block: chunks a block, as `program` was made for.
      advance: told, now and then, how many more chunks are done.
    """
    per_device = split.chunks.shape[1] * split.chunks_per_utterance
    outputs = Outputs(
        parallel.zeros((per_device, scaled_width(DENSE_WIDTH, config))),
        parallel.zeros((per_device, len(config.attributes))),
    )

    def segment(first: int, last: int) -> None:
        nonlocal outputs
        outputs = program(variables, split.chunks, outputs, first, last)
        outputs.attributes.block_until_ready()
        advance((last - first) * block * split.chunks.shape[0])

    in_segments(-(-per_device // block), segment)
    return outputs
