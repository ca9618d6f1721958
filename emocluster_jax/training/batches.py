"""What a stage's steps go over in an epoch: an equal share from every cluster, or everything, plainly shuffled."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from emocluster_jax.clustering.embedding_transform import EmbeddingTransform
from emocluster_jax.clustering.sampling import balanced_indices, balanced_recordings, shuffled_indices
from emocluster_jax.feed.split import Split
from emocluster_jax.inference.forward import Forward
from emocluster_jax.models.encoder import DENSE_WIDTH, scaled_width
from emocluster_jax.runtime import parallel
from emocluster_jax.training.programs import Clustering
from emocluster_jax.training.state import TrainState
from emocluster_jax.training.stopwatch import StageView

Seed = tuple[int, int, int]
"""(run's seed, epoch, stage number): all that is drawn in a stage follows from it."""


class Clusters(NamedTuple):
    """Clusters of a split's chunks.

    Attributes:
      assignments: (chunks,) int32, the pseudo-labels that the stage trains on.
      fitted: the principal components that the embeddings were projected on; None without them.
      centroids: (K, E) float32, of the projected embeddings.
    """

    assignments: Int[np.ndarray, " chunks"]
    fitted: EmbeddingTransform | None
    centroids: Float[np.ndarray, "K E"]


class EmbeddingError(Exception):
    """Some chunks have no finite embedding, and nothing can be clustered.

    Attributes:
      chunks: their numbers, (n,); none where all are finite and their distances too large.
    """

    def __init__(self, chunks: Int[np.ndarray, " n"]) -> None:
        super().__init__(f"{len(chunks)} chunks have no finite embedding")
        self.chunks = chunks


@dataclass(frozen=True)
class Batches(ABC):
    """How a stage draws its batches.

    Attributes:
      split: the recordings that it trains on.
      whole_recordings: whether batches are made of recordings with all of their chunks in order, or of chunks.
    """

    split: Split
    whole_recordings: bool

    @property
    def together(self) -> int:
        """How many consecutive chunks of a batch are those of one recording, in order."""
        return self.split.chunks_per_utterance if self.whole_recordings else 1

    @property
    @abstractmethod
    def embedded_chunks(self) -> int:
        """Chunks that go through the network before the first step."""

    @property
    @abstractmethod
    def clusters_shape(self) -> Clusters | None:
        """`jax.ShapeDtypeStruct`s in place of the arrays that `begin` gives."""

    @abstractmethod
    def begin(self, state: TrainState, seed: Seed, view: StageView) -> tuple[TrainState, Clusters | None]:
        """The network that the steps of one epoch start from, and what their batches are drawn from.

        Args:
          state: the network before the stage, on every device; it is used up.
          seed: all that is drawn follows from it.
          view: told what is going on.

        Returns:
          The network, on every device, and the clusters; None for systems without clusters.

        Raises:
          EmbeddingError: embeddings that are to be clustered are not finite.
          StoppedError: the view asked for it; `state` is not used up.
        """

    def draw(self, clusters: Clusters | None, batch_chunks: int, seed: Seed) -> Int[np.ndarray, "steps batch"]:
        """The batches of one epoch: (steps, batch) int32, global chunk numbers; every batch is full.

        Args:
          clusters: that `begin` gave.
          batch_chunks: chunks per batch over all devices.
          seed: that `begin` was given.
        """
        rng, each = np.random.default_rng(seed), self.together
        units = self._draw(clusters, batch_chunks // each, rng)
        return (units[..., None] * each + np.arange(each)).reshape(len(units), -1).astype(np.int32)

    @abstractmethod
    def _draw(
        self, clusters: Clusters | None, batch_size: int, rng: np.random.Generator
    ) -> Int[np.ndarray, "steps batch"]:
        """The batches by the numbers of their chunks, or of their recordings."""


@dataclass(frozen=True)
class ClusteredBatches(Batches):
    """Embeds and clusters the chunks, and draws every cluster equally often (paper, section 2.2).

    Attributes:
      split: as of all batches.
      whole_recordings: likewise.
      forward: runs the network in evaluation mode.
      cluster: of `programs.clustering_program`.
      redraw_head: of `programs.redraw_head_program`.
    """

    forward: Forward
    cluster: Callable[[tuple[()], Array, Array], Clustering]
    redraw_head: Callable[[TrainState, tuple[()], Array], TrainState]

    @property
    def embedded_chunks(self) -> int:
        return self.split.chunk_count

    @property
    def clusters_shape(self) -> Clusters:
        embeddings = (jax.local_device_count(), self.split.utterances_per_device * self.split.chunks_per_utterance)
        width = scaled_width(DENSE_WIDTH, self.forward.config)
        key, rows = jax.random.key(0), jax.ShapeDtypeStruct((*embeddings, width), np.float32)
        fitted, found = jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), jax.eval_shape(self.cluster, (), rows, key)
        )
        assignments = jax.ShapeDtypeStruct((self.split.chunk_count,), found.assignments.dtype)
        return Clusters(cast(Any, assignments), fitted, found.centroids)

    def begin(self, state: TrainState, seed: Seed, view: StageView) -> tuple[TrainState, Clusters]:
        # Threefry for what must not depend on the number of devices; RBG, quick to compile and to run, for the rest.
        clustering_key = jax.random.key(np.random.SeedSequence(seed).generate_state(1)[0])
        head_key, _ = device_keys(seed)
        with view.part("embed", "embedding"):
            outputs = self.forward(state.variables, self.split, view.task.advance, view.stop)
        with view.part("kmeans", "clustering"):
            fitted, found = self.cluster((), outputs.embeddings, clustering_key)
            assignments = parallel.collect(found.assignments, self.split.chunk_count)
            fitted, centroids, objective = parallel.first_replica((fitted, found.centroids, found.objective))
            if not np.isfinite(objective):  # a single embedding is enough
                finite = parallel.collect(jnp.isfinite(outputs.embeddings).all(axis=-1), self.split.chunk_count)
                raise EmbeddingError(np.flatnonzero(~finite))
            del outputs
        return self.redraw_head(state, (), head_key), Clusters(assignments, fitted, centroids)

    def _draw(
        self, clusters: Clusters | None, batch_size: int, rng: np.random.Generator
    ) -> Int[np.ndarray, "steps batch"]:
        assert clusters is not None
        if self.whole_recordings:
            return balanced_recordings(clusters.assignments.reshape(-1, self.together), batch_size, rng)
        return balanced_indices(clusters.assignments, batch_size, rng)


@dataclass(frozen=True)
class ShuffledBatches(Batches):
    """All chunks, or all recordings, in a random order."""

    @property
    def embedded_chunks(self) -> int:
        return 0

    @property
    def clusters_shape(self) -> None:
        return None

    def begin(self, state: TrainState, seed: Seed, view: StageView) -> tuple[TrainState, None]:
        return state, None

    def _draw(
        self, clusters: Clusters | None, batch_size: int, rng: np.random.Generator
    ) -> Int[np.ndarray, "steps batch"]:
        return shuffled_indices(self.split.chunk_count // self.together, batch_size, rng)


def device_keys(seed: Seed) -> tuple[Array, Array]:
    """RBG keys for what a stage draws on the devices: the new cluster head, and the steps' dropout and noise."""
    head_key, steps_key = jax.random.split(
        jax.random.key(np.random.SeedSequence(seed).generate_state(2)[1], impl="rbg")
    )
    return head_key, steps_key
