"""The compiled programs of training.

A program covers all steps of a stage and takes the range of them to run, so that the host can go on a second or two at
a time: show progress, heed a signal, look for NaN.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from emocluster_jax.clustering.embedding_transform import EmbeddingTransform, fit_transform, transform
from emocluster_jax.clustering.kmeans import KMeansResult, kmeans
from emocluster_jax.config import ClusteringConfig
from emocluster_jax.feed.split import drawn_rows
from emocluster_jax.objectives.stage import Batch, Stage
from emocluster_jax.runtime import parallel
from emocluster_jax.training.state import TrainState, redraw_cluster_head
from emocluster_jax.training.steps import train_step


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
) -> Callable[[Array, Array], Clustering]:
    """A program that clusters a split's embeddings over all devices.

    Args:
      config: K-means' settings.
      clusters: K.
      chunk_count: real chunks; the rows after them are padding.

    Returns:
      (key, embeddings) -> `Clustering`, whose assignments are those of each device's chunks.
    """

    def run(key: Array, embeddings: Float[Array, "n E"]) -> Clustering:
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
            transform(embeddings, fitted, l2_normalize=config.l2_normalize),
            weights,
            clusters=clusters,
            iterations=config.iterations,
            initialization=config.initialization,
            axis_name=parallel.AXIS,
        )
        return Clustering(fitted, result)

    return parallel.parallel(run, arguments=2, replicated_arguments=(0,))


def redraw_head_program() -> Callable[[TrainState, Array], TrainState]:
    """A program (state, key) -> state with the cluster head drawn anew; the given state is used up."""

    def run(state: TrainState, key: Array) -> TrainState:
        return TrainState(redraw_cluster_head(state.params, key), state.batch_stats, state.optimizer_states)

    return parallel.parallel(run, arguments=2, replicated_arguments=(1,), donated_arguments=(0,))


def training_program(stage: Stage, chunks_per_utterance: int) -> Callable[..., tuple[TrainState, dict[str, Array]]]:
    """A program that runs a stage's steps over batches drawn from a split's chunks.

    Args:
      stage: what is minimised, and how.
      chunks_per_utterance: consecutive chunks that share a recording's labels.

    Returns:
      (state, chunks, labels, batches, key, terms, epochs done, first step, past the last step) -> state and terms,
      with the loss terms of these steps filled in. `chunks` is what `Split.draws` gives for the steps, `batches`
      (steps, batch) holds global chunk numbers, `terms` maps the names of the loss terms to (steps,); the given state
      and terms are used up. All but the key and the numbers after `terms` lie on the devices: labels and batches of a
      large pool, sent with every call, would take longer than a step.
    """

    def run(
        state: TrainState,
        chunks: Array,
        labels: Labels,
        batches: Int[Array, "steps batch"],
        key: Array,
        terms: dict[str, Float[Array, " steps"]],
        epochs: Float[Array, ""],
        first: Array,
        last: Array,
    ) -> tuple[TrainState, dict[str, Array]]:
        def body(
            i: Array, carry: tuple[TrainState, dict[str, Float[Array, " steps"]]]
        ) -> tuple[TrainState, dict[str, Float[Array, " steps"]]]:
            state, terms = carry
            own = parallel.own_share(batches[i])
            recordings: Array = own // chunks_per_utterance
            batch = Batch(
                chunks=drawn_rows(chunks, batches[i]).astype(jnp.float32),
                pseudo_labels=None if labels.pseudo_labels is None else labels.pseudo_labels[own],
                targets=labels.targets[recordings],
                present=labels.present[recordings],
                epochs=epochs + i / batches.shape[0],
            )
            state, values = train_step(stage, state, batch, jax.random.fold_in(key, i), parallel.AXIS)
            return state, {name: terms[name].at[i].set(values[name]) for name in terms}

        return lax.fori_loop(first, last, body, (state, terms))

    return parallel.parallel(run, arguments=9, replicated_arguments=(4, 6, 7, 8), donated_arguments=(0, 5))
