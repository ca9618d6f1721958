"""A split that lies on the devices as a whole, and the compiled programs that run over it.

Every program covers many steps and takes the range of steps to run, so that the host can go on a second or two at a
time: show progress, heed a signal, look for NaN.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Float16, Int

from emocluster_jax import parallel
from emocluster_jax.clustering.kmeans import kmeans
from emocluster_jax.config import ClusteringConfig
from emocluster_jax.training.state import TrainState
from emocluster_jax.training.steps import Batch, Stage, train_step


@dataclass(frozen=True)
class ResidentSplit:
    """The chunks of U recordings, C each, dealt out over the devices by recording.

    Attributes:
      chunks: (local devices, recordings a device, C, time, mel) float16; recordings past the last are padding.
      utterances: number of real recordings over all processes.
    """

    chunks: Float16[Array, "devices utterances chunks time mel"]
    utterances: int

    @property
    def chunks_per_utterance(self) -> int:
        return self.chunks.shape[2]

    @property
    def chunk_count(self) -> int:
        """Real chunks over all processes."""
        return self.utterances * self.chunks_per_utterance


class Labels(NamedTuple):
    """What is known of a split's chunks; small, and the same on every device.

    Attributes:
      pseudo_labels: (chunks,) int32, the cluster of every chunk.
      targets: (recordings, A) float32, z-normalised labels; 0 where missing.
      present: (recordings, A) bool.
    """

    pseudo_labels: Int[np.ndarray, "chunks"]
    targets: Float[np.ndarray, "utterances A"]
    present: np.ndarray


class Outputs(NamedTuple):
    """What the network in evaluation mode says of every chunk of a split, device by device.

    Attributes:
      embeddings: (..., E) float32, what K-means clusters.
      attributes: (..., A) float32, in z-normalised label units.
    """

    embeddings: Float[Array, "... E"]
    attributes: Float[Array, "... A"]


def empty_outputs(split: ResidentSplit, embedding_width: int, attributes: int) -> Outputs:
    """Zeros to be filled by the program of `evaluation_program`."""
    devices, utterances, chunks = split.chunks.shape[:3]
    make = parallel.parallel(
        lambda _: Outputs(
            jnp.zeros((utterances * chunks, embedding_width)), jnp.zeros((utterances * chunks, attributes))
        ),
        arguments=1,
    )
    return make(np.zeros(devices))


def evaluation_program(model: nn.Module, block: int) -> Callable[..., Outputs]:
    """A program that runs the network in evaluation mode over blocks of every device's chunks.

    Args:
      model: the network.
      block: chunks a block: what fits the cache of a CPU, or fills an accelerator.

    Returns:
      (state, split.chunks, outputs, first block, past the last block) -> outputs with these blocks filled in; the
      given outputs are used up.
    """

    def run(state: TrainState, chunks: Array, outputs: Outputs, first: Array, last: Array) -> Outputs:
        flat = chunks.reshape(-1, *chunks.shape[2:])
        size = min(block, flat.shape[0])
        variables = {"params": state.params, "batch_stats": state.batch_stats}

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


def clustering_program(config: ClusteringConfig, clusters: int, chunk_count: int) -> Callable[..., Any]:
    """A program that clusters a split's embeddings over all devices.

    Args:
      config: K-means' settings.
      clusters: K.
      chunk_count: real chunks; the rows after them are padding.

    Returns:
      (key, embeddings) -> `KMeansResult` whose assignments are those of all chunks, the same on every device.
    """

    def run(key: Array, embeddings: Float[Array, "n E"]) -> Any:
        rows = lax.axis_index(parallel.AXIS) * embeddings.shape[0] + jnp.arange(embeddings.shape[0])
        result = kmeans(
            key,
            embeddings,
            (rows < chunk_count).astype(jnp.float32),
            clusters=clusters,
            iterations=config.iterations,
            initialization=config.initialization,
            axis_name=parallel.AXIS,
        )
        everywhere = lax.all_gather(result.assignments, parallel.AXIS, tiled=True)
        return result._replace(assignments=everywhere[:chunk_count])

    return parallel.parallel(run, arguments=2, replicated_arguments=(0,))


def training_program(stage: Stage) -> Callable[..., tuple[TrainState, dict[str, Array]]]:
    """A program that runs a stage's steps over batches drawn from all devices' chunks.

    Returns:
      (state, split.chunks, labels, batches, key, terms, first step, past the last step) -> state and terms, with the
      loss terms of these steps filled in. `batches` (steps, batch) holds global chunk numbers, `terms` maps the names
      of the loss terms to (steps,); the given state and terms are used up.
    """

    def run(
        state: TrainState,
        chunks: Array,
        labels: Labels,
        batches: Int[Array, "steps batch"],
        key: Array,
        terms: dict[str, Float[Array, "steps"]],
        first: Array,
        last: Array,
    ) -> tuple[TrainState, dict[str, Array]]:
        chunks_per_utterance = chunks.shape[1]
        flat = chunks.reshape(-1, *chunks.shape[2:])

        def body(
            i: Array, carry: tuple[TrainState, dict[str, Float[Array, "steps"]]]
        ) -> tuple[TrainState, dict[str, Float[Array, "steps"]]]:
            state, terms = carry
            own = parallel.own_share(batches[i])
            batch = Batch(
                chunks=parallel.gather_rows(flat, batches[i]).astype(jnp.float32),
                pseudo_labels=labels.pseudo_labels[own],
                targets=labels.targets[own // chunks_per_utterance],
                present=labels.present[own // chunks_per_utterance],
            )
            state, values = train_step(stage, state, batch, jax.random.fold_in(key, i), parallel.AXIS)
            return state, {name: terms[name].at[i].set(values[name]) for name in terms}

        return lax.fori_loop(first, last, body, (state, terms))

    return parallel.parallel(run, arguments=8, replicated_arguments=(2, 3, 4, 6, 7), donated_arguments=(0, 5))
