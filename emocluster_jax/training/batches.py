"""What a stage's steps go over in an epoch: an equal share from every cluster, or all chunks, plainly shuffled."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from emocluster_jax import parallel
from emocluster_jax.clustering.embedding_transform import EmbeddingTransform
from emocluster_jax.clustering.sampling import balanced_indices, shuffled_indices
from emocluster_jax.evaluation.forward import Forward
from emocluster_jax.feed.split import Split
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


class Drawn(NamedTuple):
    """What the steps of one stage of one epoch start from.

    Attributes:
      state: the network, on every device.
      batches: (steps, batch) int32, global chunk numbers; every batch is full.
      clusters: what the batches were drawn from; None for systems without clusters.
    """

    state: TrainState
    batches: Int[np.ndarray, "steps batch"]
    clusters: Clusters | None


class EmbeddingError(Exception):
    """Some chunks have no finite embedding, and nothing can be clustered.

    Attributes:
      chunks: their numbers, (n,); none where all are finite and their distances too large.
    """

    def __init__(self, chunks: Int[np.ndarray, " n"]) -> None:
        super().__init__(f"{len(chunks)} chunks have no finite embedding")
        self.chunks = chunks


class Batches(ABC):
    """How a stage draws its batches.

    Attributes:
      split: the chunks that it trains on.
    """

    split: Split

    @property
    @abstractmethod
    def embedded_chunks(self) -> int:
        """Chunks that go through the network before the first step."""

    @abstractmethod
    def draw(self, state: TrainState, batch_chunks: int, seed: Seed, view: StageView) -> Drawn:
        """The batches of one epoch.

        Args:
          state: the network before the stage, on every device; it is used up.
          batch_chunks: chunks a batch over all devices.
          seed: all that is drawn follows from it.
          view: told what is going on.

        Raises:
          EmbeddingError: embeddings that are to be clustered are not finite.
        """


@dataclass(frozen=True)
class ClusteredBatches(Batches):
    """Embeds and clusters the chunks, and draws every cluster equally often (paper, section 2.2).

    Attributes:
      split: the chunks.
      forward: runs the network in evaluation mode.
      cluster: of `programs.clustering_program`.
      redraw_head: of `programs.redraw_head_program`.
    """

    split: Split
    forward: Forward
    cluster: Callable[[Array, Array], Clustering]
    redraw_head: Callable[[TrainState, Array], TrainState]

    @property
    def embedded_chunks(self) -> int:
        return self.split.chunk_count

    def draw(self, state: TrainState, batch_chunks: int, seed: Seed, view: StageView) -> Drawn:
        # Threefry for what must not depend on the number of devices; RBG, quick to compile and to run, for the rest.
        clustering_key = jax.random.key(np.random.SeedSequence(seed).generate_state(1)[0])
        head_key, _ = device_keys(seed)
        with view.part("embed", "embedding"):
            outputs = self.forward(state.variables, self.split, view.task.advance)
        with view.part("kmeans", "clustering"):
            fitted, found = self.cluster(clustering_key, outputs.embeddings)
            assignments = parallel.collect(found.assignments, self.split.chunk_count)
            fitted, centroids, objective = parallel.first_replica((fitted, found.centroids, found.objective))
            if not np.isfinite(objective):  # a single embedding is enough
                finite = parallel.collect(jnp.isfinite(outputs.embeddings).all(axis=-1), self.split.chunk_count)
                raise EmbeddingError(np.flatnonzero(~finite))
            del outputs
        with view.part("batches", "drawing batches"):
            batches = balanced_indices(assignments, batch_chunks, np.random.default_rng(seed)).astype(np.int32)
            state = self.redraw_head(state, head_key)
        return Drawn(state, batches, Clusters(assignments, fitted, centroids))


@dataclass(frozen=True)
class ShuffledBatches(Batches):
    """All chunks in a random order.

    Attributes:
      split: the chunks.
    """

    split: Split

    @property
    def embedded_chunks(self) -> int:
        return 0

    def draw(self, state: TrainState, batch_chunks: int, seed: Seed, view: StageView) -> Drawn:
        with view.part("batches", "drawing batches"):
            rng = np.random.default_rng(seed)
            batches = shuffled_indices(self.split.chunk_count, batch_chunks, rng).astype(np.int32)
        return Drawn(state, batches, None)


def device_keys(seed: Seed) -> tuple[Array, Array]:
    """RBG keys for what a stage draws on the devices: the new cluster head, and the steps' dropout and noise."""
    head_key, steps_key = jax.random.split(
        jax.random.key(np.random.SeedSequence(seed).generate_state(2)[1], impl="rbg")
    )
    return head_key, steps_key
