"""The network in evaluation mode: one pass over chunks, and the same over a split on all devices."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import chain
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int

from emocluster_jax.clustering.embedding_transform import EmbeddingTransform, transform
from emocluster_jax.clustering.kmeans import assign
from emocluster_jax.config import ClusteringConfig, ModelConfig
from emocluster_jax.feed.split import AUDIO, Inputs, Split, as_float32, block_starts
from emocluster_jax.models.encoder import CONVOLUTION_WIDTHS, DENSE_WIDTH, scaled_width
from emocluster_jax.models.network import Output
from emocluster_jax.models.registry import network_of
from emocluster_jax.runtime import parallel, platforms
from emocluster_jax.runtime.device_memory import device_memory
from emocluster_jax.runtime.host import usable_cores
from emocluster_jax.runtime.loops import StoppedError, in_order, in_segments

_BLOCK = 2_048
"""Chunks that an accelerator is given at a time, at most, which fill it."""
_SHARE = 1 / 16
"""What of an accelerator's memory the network may take for them."""
_CPU_BLOCK = 88
"""Chunks that a CPU is given at a time, which hide what a call costs."""
_IN_CPU_CACHE = 8
"""About so many of them it computes at a time, in whole recordings."""


class Outputs(NamedTuple):
    """A model's outputs for chunks, on the device, or from ONNX Runtime on the host; of a split, device by device.

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
    """Runs a network in evaluation mode over splits, block by block; compiled once for all of them.

    Attributes:
      config: the network's settings.
      program: ((), (variables, a block's inputs), (first, last)) -> the outputs of the recordings that count, from
        `first` up to, but not including, `last` of the block, by `parallel.parallel`.
    """

    config: ModelConfig
    program: parallel.Program

    def __call__(
        self,
        variables: Any,
        split: Split,
        advance: Callable[[int], None],
        stop: Callable[[], bool] | None = None,
        compiling: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> Outputs:
        """Embeddings and attributes of every chunk, by the network's variables on every device.

        Now and then, `advance` is told how many more chunks are done, and `stop` asked, with the same answer on all
        processes, whether to stop, which raises StoppedError. `compiling` is entered while programs are compiled.
        """
        count, each = split.utterances_per_device, split.chunks_per_utterance
        size, per_device, side_by_side = _block(split.shape, self.config), count * each, _blocks_side_by_side()
        starts = block_starts(size, count)
        outputs = Outputs(
            parallel.zeros((per_device, scaled_width(DENSE_WIDTH, self.config))),
            parallel.zeros((per_device, len(self.config.attributes))),
        )

        # The last block starts early: what it shares with the one before is there already.
        firsts = np.arange(0, count, size, dtype=np.int32) - starts
        lasts = np.minimum(size, count - starts)

        def outputs_of(block: int, given: Inputs) -> Outputs:
            return self.program((), (variables, given), (firsts[block], lasts[block]))

        with split.blocks(size) as blocks, ThreadPoolExecutor(side_by_side, thread_name_prefix="network") as pool:

            def segment(first: int, last: int) -> None:
                nonlocal outputs, blocks
                given = zip(range(first, last), blocks, strict=False)
                if side_by_side == 1:
                    found = (outputs_of(*block) for block in given)
                else:
                    found = in_order(pool, lambda block: jax.block_until_ready(outputs_of(*block)), given, side_by_side)
                for block, of_block in zip(range(first, last), found, strict=True):
                    outputs = _put(outputs, of_block, (starts[block] * each, firsts[block] * each))
                outputs.attributes.block_until_ready()
                advance((min(last * size, count) - first * size) * each * jax.device_count())

            with compiling():
                given = next(blocks)
                self.program.lower((), (variables, given), (firsts[0], lasts[0])).compile()
                blocks = chain([given], blocks)
            if in_segments(len(starts), segment, together=side_by_side, stop=stop) < len(starts):
                raise StoppedError
        return outputs


@lru_cache(maxsize=32)
def make_forward(config: ModelConfig, *, fast: bool = False) -> Forward:
    """The pass of `network_outputs`, compiled once per process."""
    if fast and config.compute_dtype == "float32" and platforms.only_cpu():
        return make_forward(config)  # which is as fast there, and one program less to compile

    def run(_: tuple[()], arrays: tuple[Any, Inputs], counted: tuple[Array, Array]) -> Outputs:
        variables, given = arrays
        recordings, each = given[AUDIO].shape[:2]
        at_once = min(_at_once(each), recordings) if platforms.only_cpu() else recordings

        def outputs_of(inputs: Inputs) -> Outputs:
            output = network_outputs(config, variables, as_float32(inputs), fast=fast)
            return Outputs(output.embeddings, output.attributes)

        if at_once == recordings:
            return outputs_of(given)

        def body(i: Array, filled: Outputs) -> Outputs:
            part = {name: lax.dynamic_slice_in_dim(rows, i * at_once, at_once) for name, rows in given.items()}
            return jax.tree.map(partial(_updated, start=i * at_once * each), filled, outputs_of(part))

        widths = scaled_width(DENSE_WIDTH, config), len(config.attributes)
        empty = Outputs(*(jnp.zeros((recordings * each, width)) for width in widths))
        return lax.fori_loop(counted[0] // at_once, -(-counted[1] // at_once), body, empty)

    return Forward(config, parallel.parallel(run))


def _block(shape: tuple[int, int, int], config: ModelConfig) -> int:
    """How many recordings of this shape a device is given at a time, the same on all processes.

    On a CPU they are a multiple of those that it computes at a time.
    """
    chunks, frames, dimensions = shape
    memory = device_memory()
    if memory is None:
        at_once = _at_once(chunks)
        return max(1, _CPU_BLOCK // (chunks * at_once)) * at_once
    # The first two layers' outputs are there together, and take more than all others.
    per_chunk = 2 * 4 * frames * dimensions * scaled_width(CONVOLUTION_WIDTHS[0], config)
    fitting = min(_BLOCK, int(_SHARE * memory.total / per_chunk))
    return max(1, int(parallel.smallest(fitting)) // chunks)


def _at_once(chunks: int) -> int:
    """How many recordings, of so many chunks, a CPU computes at a time."""
    return max(1, _IN_CPU_CACHE // chunks)


def _blocks_side_by_side() -> int:
    """One for each core of a CPU: XLA's convolutions there keep to one. Accelerators queue what they are given."""
    return usable_cores() if platforms.only_cpu() and jax.local_device_count() == 1 else 1


def _updated(rows: Array, part: Array, start: Array) -> Array:
    return lax.dynamic_update_slice_in_dim(rows, part, start, 0)


def _block_into_outputs(outputs: Outputs, block: Outputs, place: tuple[Array, Array]) -> Outputs:
    """A split's outputs with a block's from row `place[0]` on, but for the block's first `place[1]` rows."""
    start, first = place

    def put(held: Array, rows: Array) -> Array:
        rows = rows[: len(held)]
        old = lax.dynamic_slice_in_dim(held, start, len(rows))
        return _updated(held, jnp.where(jnp.arange(len(rows))[:, None] < first, old, rows), start)

    return jax.tree.map(put, outputs, block)


_put = parallel.parallel(_block_into_outputs)


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
    rows = parallel.collect(outputs.attributes, split.chunk_count)
    return rows.reshape(split.utterances, split.chunks_per_utterance, -1)
