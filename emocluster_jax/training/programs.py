"""The compiled programs of training.

A program covers all steps of a stage and takes the range of them to run, so that the host can go on a second or two at
a time: show progress, heed a signal, look for NaN.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from emocluster_jax.clustering.embedding_transform import EmbeddingTransform, fit_transform, transform
from emocluster_jax.clustering.kmeans import KMeansResult, kmeans
from emocluster_jax.config import ClusteringConfig
from emocluster_jax.feed.split import Held, Inputs, drawn
from emocluster_jax.objectives.stage import Batch, Stage
from emocluster_jax.runtime import parallel
from emocluster_jax.training.state import TrainState, redraw_cluster_head
from emocluster_jax.training.steps import StepLog, train_step


class Labels(NamedTuple):
    """What is known of a split's chunks, the same on every device.

    Attributes:
      pseudo_labels: (chunks,) int32, the cluster of every chunk; None for systems without clusters.
      targets: (recordings, A) float32, z-normalised labels; 0 where missing.
      present: (recordings, A) bool.
    """

    pseudo_labels: Int[np.ndarray, " chunks"] | None
    targets: Float[np.ndarray, "utterances A"]
    present: Bool[np.ndarray, "utterances A"]


class Clustering(NamedTuple):
    """Clusters of a split's embeddings.

    Attributes:
      fitted: the principal components that the embeddings were projected on; None without them.
      clusters: K-means of the embeddings after that.
    """

    fitted: EmbeddingTransform | None
    clusters: KMeansResult


def clustering_program(
    config: ClusteringConfig, clusters: int, chunk_count: int
) -> Callable[[tuple[()], Array, Array], Clustering]:
    """A program that clusters a split's embeddings over all devices.

    Args:
      config: K-means' settings.
      clusters: K.
      chunk_count: real chunks; the rows after them are padding.

    Returns:
      ((), embeddings, key) -> `Clustering`, with the assignments of each device's chunks.
    """

    def run(_: tuple[()], embeddings: Float[Array, "n E"], key: Array) -> Clustering:
        rows = lax.axis_index(parallel.AXIS) * embeddings.shape[0] + jnp.arange(embeddings.shape[0])
        weights = (rows < chunk_count).astype(jnp.float32)
        fitted = None
        if config.pca_components is not None:
            fitted = fit_transform(
                embeddings,
                weights,
                components=config.pca_components,
                whiten=config.whiten,
                axis_name=parallel.AXIS,
            )
        result = kmeans(
            key,
            transform(embeddings, fitted, l2_normalize=config.unit_length),
            weights,
            clusters=clusters,
            iterations=config.iterations,
            initialization=config.initialization,
            spherical=config.cosine,
            axis_name=parallel.AXIS,
        )
        return Clustering(fitted, result)

    return parallel.parallel(run)


def redraw_head_program() -> Callable[[TrainState, tuple[()], Array], TrainState]:
    """A program (state, (), key) -> the state with the cluster head drawn anew."""

    def run(state: TrainState, _: tuple[()], key: Array) -> TrainState:
        return TrainState(redraw_cluster_head(state.params, key), state.batch_stats, state.optimizer_states)

    return parallel.parallel(run)


class Trained(NamedTuple):
    """What the steps of a stage change; on every device.

    Attributes:
      state: the network.
      log: (steps,) each, the log of the steps so far.
    """

    state: TrainState
    log: StepLog


class StageArrays(NamedTuple):
    """What the steps of a stage read; on every device: sent with every call, a large pool's would outlast a step.

    Attributes:
      given: what `Split.draws` gives for the steps.
      labels: of the split.
      batches: (steps, batch) int32, global chunk numbers.
    """

    given: Held | Inputs
    labels: Labels
    batches: Int[Array, "steps batch"]


class StepRange(NamedTuple):
    """Which steps to take.

    Attributes:
      key: of all steps of the stage.
      epochs: completed before the stage.
      first: number of the first step.
      last: of the step after the last one.
    """

    key: Array
    epochs: Any
    first: Any
    last: Any


def training_program(
    stage: Stage, chunks_per_utterance: int, together: int = 1
) -> Callable[[Trained, StageArrays, StepRange], Trained]:
    """A program that runs a stage's steps over batches drawn from a split, and fills in their log.

    Args:
      stage: what is minimised, and how.
      chunks_per_utterance: consecutive chunks that share a recording's labels.
      together: 1 for batches of chunks, `chunks_per_utterance` for batches of whole recordings.
    """

    def run(trained: Trained, arrays: StageArrays, steps: StepRange) -> Trained:
        given, labels, batches = arrays

        def body(i: Array, before: Trained) -> Trained:
            own = parallel.own_share(batches[i])
            recordings: Array = own // chunks_per_utterance
            batch = Batch(
                inputs=drawn(given, batches[i], together),
                pseudo_labels=None if labels.pseudo_labels is None else labels.pseudo_labels[own],
                targets=labels.targets[recordings],
                present=labels.present[recordings],
                epochs=steps.epochs + i / batches.shape[0],
            )
            key = jax.random.fold_in(steps.key, i)
            state, found = train_step(stage, before.state, batch, key, parallel.AXIS)
            return Trained(state, jax.tree.map(lambda log, value: log.at[i].set(value), before.log, found))

        return lax.fori_loop(steps.first, steps.last, body, trained)

    return parallel.parallel(run)
