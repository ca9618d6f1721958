"""The network in evaluation mode: one pass over chunks, and the same over a split on all devices."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int

from emocluster_jax.clustering.embedding_transform import EmbeddingTransform, transform
from emocluster_jax.clustering.kmeans import assign
from emocluster_jax.config import ClusteringConfig, ModelConfig
from emocluster_jax.feed.split import AUDIO, Held, Inputs, Split, block_of, block_starts
from emocluster_jax.models.encoder import DENSE_WIDTH, scaled_width
from emocluster_jax.models.network import Output
from emocluster_jax.models.registry import network_of
from emocluster_jax.runtime import parallel
from emocluster_jax.runtime.loops import StoppedError, in_segments

_CPU_BLOCK = 8
_ACCELERATOR_BLOCK = 2_048


class Outputs(NamedTuple):
    """What the network in evaluation mode says of every chunk of a split, device by device.

    Attributes:
      embeddings: (..., E) float32, what represents the chunks, and K-means clusters.
      attributes: (..., A) float32, in z-normalised label units.
    """

    embeddings: Float[Array, "... E"]
    attributes: Float[Array, "... A"]


@dataclass(frozen=True)
class Forward:
    """Runs a network in evaluation mode over splits; compiled once a split's shape.

    Attributes:
      config: the network's settings.
      program: (outputs, (variables, given), (first block, past the last block)) -> outputs with these blocks filled
        in, by `parallel.parallel`; `given` is what `Split.blocks` gives for them.
    """

    config: ModelConfig
    program: Callable[[Outputs, Any, Any], Outputs]

    def __call__(
        self,
        variables: Any,
        split: Split,
        advance: Callable[[int], None],
        stop: Callable[[], bool] | None = None,
    ) -> Outputs:
        """What the network says of every chunk.

        Args:
          variables: of the network, on every device.
          split: the chunks.
          advance: told, now and then, how many more chunks are done.
          stop: asked, now and then, whether to leave it; the same on all processes.

        Raises:
          StoppedError: it was left.
        """
        count, each = split.utterances_per_device, split.chunks_per_utterance
        size, per_device = _block(count, each), count * each
        outputs = Outputs(
            parallel.zeros((per_device, scaled_width(DENSE_WIDTH, self.config))),
            parallel.zeros((per_device, len(self.config.attributes))),
        )

        with split.blocks(size) as spans:

            def segment(first: int, last: int) -> None:
                nonlocal outputs
                for given, begin, end in spans(first, last):
                    outputs = self.program(outputs, (variables, given), (begin, end))
                outputs.attributes.block_until_ready()
                done = min(last * size, count) - first * size
                advance(done * each * jax.device_count())

            blocks = -(-count // size)
            if in_segments(blocks, segment, stop=stop) < blocks:
                raise StoppedError
        return outputs


def _block(recordings: int, chunks: int) -> int:
    """Recordings of so many chunks that a device takes at once, of those that it has.

    As many as stay in a CPU's cache, or as fill an accelerator.
    """
    most = _CPU_BLOCK if jax.default_backend() == "cpu" else _ACCELERATOR_BLOCK
    return min(max(1, most // chunks), recordings)


def network_outputs(config: ModelConfig, variables: Any, inputs: Inputs, *, fast: bool = False) -> Output:
    """The network's output in evaluation mode: the pass that everything outside of training steps uses.

    What people read or keep is computed in full float32, whatever the network was trained in: GPUs and TPUs round
    float32 operands otherwise, and a model's numbers should not depend on where it runs.

    Args:
      config: describes the network.
      variables: of the network.
      inputs: by name, normalised.
      fast: compute in the network's own type and round as the device does by default: for embeddings that are clustered
        in training and not kept.
    """
    if fast:
        return network_of(config).apply(variables, inputs)  # type: ignore[return-value]
    with jax.default_matmul_precision("highest"):
        return network_of(dataclasses.replace(config, compute_dtype="float32")).apply(variables, inputs)  # type: ignore[return-value]


class ChunkOutputs(NamedTuple):
    """What a model says of n chunks, on the device: attributes in z-normalised label units, clusters if it has any."""

    attributes: Float[Array, "n A"]
    embeddings: Float[Array, "n E"]
    clusters: Int[Array, " n"] | None


def chunk_outputs(
    config: ModelConfig,
    clustering: ClusteringConfig,
    variables: Any,
    fitted: EmbeddingTransform | None,
    centroids: Float[Array, "K clustered"] | None,
    inputs: Inputs,
) -> ChunkOutputs:
    """What a model says of the chunks of normalised recordings, with the cluster of each.

    That is the nearest centroid or, without centroids, the classifier's largest logit. The first two arguments are
    static.
    """
    output = network_outputs(config, variables, inputs)
    if output.cluster_logits is None:
        return ChunkOutputs(output.attributes, output.embeddings, None)
    if centroids is None:
        clusters = output.cluster_logits.argmax(axis=1).astype(jnp.int32)
    else:
        clusters, _ = assign(transform(output.embeddings, fitted, l2_normalize=clustering.unit_length), centroids)
    return ChunkOutputs(output.attributes, output.embeddings, clusters)


@functools.lru_cache(maxsize=32)
def make_forward(config: ModelConfig, *, fast: bool = False) -> Forward:
    """The forward pass of the network that `config` describes, in full float32; compiled once per shape and process.

    Args:
      config: names the system, its widths and what it computes in.
      fast: of `network_outputs`.
    """

    def run(outputs: Outputs, arrays: tuple[Any, Held | Inputs], span: tuple[Array, Array]) -> Outputs:
        variables, given = arrays
        each = (given.inputs if isinstance(given, Held) else given)[AUDIO].shape[1]
        count = outputs.attributes.shape[0] // each
        size = _block(count, each)

        def body(i: Array, filled: Outputs) -> Outputs:
            # What overlapping blocks compute twice comes out the same.
            start = block_starts(i, size, count)
            output = network_outputs(config, variables, block_of(given, start, size), fast=fast)
            return Outputs(
                lax.dynamic_update_slice_in_dim(filled.embeddings, output.embeddings, start * each, 0),
                lax.dynamic_update_slice_in_dim(filled.attributes, output.attributes, start * each, 0),
            )

        return lax.fori_loop(*span, body, outputs)

    return Forward(config, parallel.parallel(run))


def chunk_attributes(outputs: Outputs, split: Split) -> Float[np.ndarray, "utterances chunks A"]:
    """The predicted attributes of all recordings of all processes, in z-normalised label units."""
    devices, _, attributes = outputs.attributes.shape
    shape = (devices, split.utterances_per_device, split.chunks_per_utterance, attributes)
    return parallel.collect(outputs.attributes.reshape(shape), split.utterances)
