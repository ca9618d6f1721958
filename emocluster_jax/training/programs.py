"""The compiled programs of training.

A program covers all steps of a stage and takes the range of steps to run, so that every second or two the host can show
progress, handle signals and look for NaN. The same arguments give the same program again, which is traced and compiled
once per shape for all runs of a process.
"""

from __future__ import annotations

import functools
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
    """The labels of a split, the same on every device.

    Attributes:
      pseudo_labels: the cluster of every chunk, int32; None for systems without clusters.
      targets: z-normalised labels, float32; 0 where missing.
      present: which of them exist.
    """

    pseudo_labels: Int[np.ndarray, " chunks"] | None
    targets: Float[np.ndarray, "utterances A"]
    present: Bool[np.ndarray, "utterances A"]


class Clustering(NamedTuple):
    """The principal components that a split's embeddings were projected on, if any, and K-means of the result."""

    fitted: EmbeddingTransform | None
    clusters: KMeansResult


@functools.lru_cache(maxsize=32)
def clustering_program(
    config: ClusteringConfig, clusters: int, chunk_count: int
) -> Callable[[tuple[()], Array, Array], Clustering]:
    """A program ((), embeddings, key) -> `Clustering` over all devices.

    Args:
      config: K-means' settings.
      clusters: K.
      chunk_count: real chunks; the rows after them are padding.
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


@functools.cache
def redraw_head_program() -> Callable[[TrainState, tuple[()], Array], TrainState]:
    """A program (state, (), key) -> the state with a new cluster head."""

    def run(state: TrainState, _: tuple[()], key: Array) -> TrainState:
        return TrainState(redraw_cluster_head(state.params, key), state.batch_stats, state.optimizer_states)

    return parallel.parallel(run)


class Trained(NamedTuple):
    """What the steps of a stage change: the network, and the log of all steps."""

    state: TrainState
    log: StepLog


class StageArrays(NamedTuple):
    """What the steps of a stage read. It stays on the devices: to send a large pool's would take longer than a step.

    Attributes:
      given: from `Split.draws`.
      labels: of the split.
      batches: global chunk numbers, int32.
    """

    given: Held | Inputs
    labels: Labels
    batches: Int[Array, "steps batch"]


class StepRange(NamedTuple):
    """Which steps to take: from `first` up to, but not including, `last`.

    Attributes:
      key: of all steps of the stage.
      epochs: completed before the stage.
    """

    key: Array
    epochs: Any
    first: Any
    last: Any


@functools.lru_cache(maxsize=32)
def training_program(
    stage: Stage, chunks_per_utterance: int, together: int = 1
) -> Callable[[Trained, StageArrays, StepRange], Trained]:
    """A program that runs a stage's steps, and fills in their log.

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
