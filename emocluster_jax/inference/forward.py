"""The network in evaluation mode: one pass over chunks, and the same over a split on all devices."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import lru_cache
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
    """A model's outputs for chunks, on the device; of a split, device by device.

    Attributes:
      embeddings: float32, what represents the chunks, and K-means clusters.
      attributes: float32, in z-normalised label units.
      clusters: int32; None for systems without clusters, and where they are not computed.
    """

    embeddings: Float[Array, "... E"]
    attributes: Float[Array, "... A"]
    clusters: Int[Array, "*chunks"] | None = None


@dataclass(frozen=True)
class Forward:
    """Runs a network in evaluation mode over splits; compiled once per shape of a split.

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
        compiling: Callable[[], AbstractContextManager[None]] | None = None,
    ) -> Outputs:
        """Embeddings and attributes of every chunk, by the network's variables on every device.

        Now and then, `advance` is told how many more chunks are done, and `stop` asked, with the same answer on all
        processes, whether to stop, which raises StoppedError. `compiling` is entered while the program is compiled.
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

            if compiling is not None:
                with compiling():
                    segment(0, 0)
            blocks = -(-count // size)
            if in_segments(blocks, segment, stop=stop) < blocks:
                raise StoppedError
        return outputs


@lru_cache(maxsize=32)
def make_forward(config: ModelConfig, *, fast: bool = False) -> Forward:
    """The pass of `network_outputs`, compiled once per shape and process."""

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


def _block(recordings: int, chunks: int) -> int:
    """How many of a device's recordings, of so many chunks, fit its cache (CPUs), or fill it (accelerators)."""
    most = _CPU_BLOCK if jax.default_backend() == "cpu" else _ACCELERATOR_BLOCK
    return min(max(1, most // chunks), recordings)


def network_outputs(config: ModelConfig, variables: Any, inputs: Inputs, *, fast: bool = False) -> Output:
    """The network's output in evaluation mode: the pass that everything outside of training steps uses.

    What people read or keep is computed in full float32, whatever the network was trained in: GPUs and TPUs round
    float32 operands otherwise, and a model's numbers should not depend on where it runs. A `fast` pass, for embeddings
    that are clustered in training and not kept, computes in the network's own type and rounds as the device does.
    """
    network = network_of(config if fast else dataclasses.replace(config, compute_dtype="float32"))
    with nullcontext() if fast else jax.default_matmul_precision("highest"):
        return network.apply(variables, inputs)  # type: ignore[return-value]


def chunk_outputs(
    config: ModelConfig,
    clustering: ClusteringConfig,
    variables: Any,
    fitted: EmbeddingTransform | None,
    centroids: Float[Array, "K clustered"] | None,
    inputs: Inputs,
) -> Outputs:
    """A model's outputs for the chunks of normalised recordings; the first two arguments are static.

    A chunk's cluster is the nearest centroid or, without centroids, the classifier's largest logit.
    """
    output = network_outputs(config, variables, inputs)
    clusters = None
    if output.cluster_logits is not None and centroids is None:
        clusters = output.cluster_logits.argmax(axis=1).astype(jnp.int32)
    elif output.cluster_logits is not None:
        clusters, _ = assign(transform(output.embeddings, fitted, l2_normalize=clustering.unit_length), centroids)
    return Outputs(output.embeddings, output.attributes, clusters)


def chunk_attributes(outputs: Outputs, split: Split) -> Float[np.ndarray, "utterances chunks A"]:
    """The predicted attributes of all recordings of all processes, in z-normalised label units."""
    devices, _, attributes = outputs.attributes.shape
    shape = (devices, split.utterances_per_device, split.chunks_per_utterance, attributes)
    return parallel.collect(outputs.attributes.reshape(shape), split.utterances)
