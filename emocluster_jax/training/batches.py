"""The batches of a stage's steps in an epoch: an equal share from every cluster, or everything, plainly shuffled."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from emocluster_jax.clustering.embedding_transform import EmbeddingTransform
from emocluster_jax.clustering.sampling import balanced_indices, balanced_recordings, shuffled_indices
from emocluster_jax.console import Task
from emocluster_jax.feed.split import Split
from emocluster_jax.inference.forward import Forward
from emocluster_jax.models.encoder import DENSE_WIDTH, scaled_width
from emocluster_jax.runtime import parallel
from emocluster_jax.training.programs import Clustering
from emocluster_jax.training.state import TrainState

Seed = tuple[int, int, int]
"""(run's seed, epoch, stage number), which determine everything that is drawn in a stage."""


@dataclass
class Stopwatch:
    """Seconds by part of the epoch."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Adds the duration of the block to `seconds[name]`."""
        started = time.monotonic()
        yield
        self.seconds[name] = self.seconds.get(name, 0.0) + time.monotonic() - started


@dataclass(frozen=True)
class StageView:
    """How a running stage shows its progress, and learns whether to go on.

    Attributes:
      title: what to call the stage on the screen.
      task: advances by the chunks that are done.
      watch: times each part.
      stop: asked now and then whether to stop; the same on all processes.
      pause: asked after steps whether a checkpoint is due; the same on all processes.
    """

    title: str
    task: Task
    watch: Stopwatch
    stop: Callable[[], bool]
    pause: Callable[[], bool] = lambda: False

    @contextmanager
    def part(self, name: str, description: str) -> Iterator[None]:
        """Shows the description, and adds the duration of the block to the epoch's part `name`."""
        self.task.describe(f"{self.title}: {description}")
        with self.watch.part(name):
            yield


class Clusters(NamedTuple):
    """Clusters of a split's chunks.

    Attributes:
      assignments: int32, the pseudo-labels that the stage trains on.
      fitted: the principal components that the embeddings were projected on; None without them.
      centroids: float32, of the projected embeddings.
    """

    assignments: Int[np.ndarray, " chunks"]
    fitted: EmbeddingTransform | None
    centroids: Float[np.ndarray, "K E"]


class EmbeddingError(Exception):
    """Embeddings cannot be clustered: those of `chunks` are not finite or, without any, distances are too large."""

    def __init__(self, chunks: Int[np.ndarray, " n"]) -> None:
        super().__init__(f"{len(chunks)} chunks have no finite embedding")
        self.chunks = chunks


@dataclass(frozen=True)
class Batches(ABC):
    """How a stage draws its batches from a split: as single chunks, or as recordings with their chunks in order."""

    split: Split
    whole_recordings: bool

    @property
    def together(self) -> int:
        """Consecutive chunks of a batch that belong to one recording."""
        return self.split.chunks_per_utterance if self.whole_recordings else 1

    @property
    @abstractmethod
    def embedded_chunks(self) -> int:
        """Chunks that go through the network before the first step."""

    @property
    @abstractmethod
    def clusters_shape(self) -> Clusters | None:
        """The clusters that `begin` returns, as `jax.ShapeDtypeStruct`s."""

    @abstractmethod
    def begin(self, state: TrainState, seed: Seed, view: StageView) -> tuple[TrainState, Clusters | None]:
        """The network that the steps of one epoch start from, and the clusters that their batches are drawn from.

        Args:
          state: the network before the stage, on every device; it must not be used afterwards.
          seed: determines all draws.
          view: shows progress.

        Raises:
          EmbeddingError: embeddings cannot be clustered.
          StoppedError: the view asked to stop; `state` can still be used.
        """

    def draw(self, clusters: Clusters | None, batch_chunks: int, seed: Seed) -> Int[np.ndarray, "steps batch"]:
        """The global chunk numbers of an epoch's batches, int32; every batch is full.

        Args:
          clusters: from `begin`.
          batch_chunks: chunks per batch over all devices.
          seed: the same as for `begin`.
        """
        rng, each = np.random.default_rng(seed), self.together
        units = self._draw(clusters, batch_chunks // each, rng)
        return (units[..., None] * each + np.arange(each)).reshape(len(units), -1).astype(np.int32)

    @abstractmethod
    def _draw(
        self, clusters: Clusters | None, batch_size: int, rng: np.random.Generator
    ) -> Int[np.ndarray, "steps batch"]:
        """The numbers of the batches' chunks, or of their recordings."""


@dataclass(frozen=True)
class ClusteredBatches(Batches):
    """Embeds and clusters the chunks, and draws every cluster equally often (paper, section 2.2).

    `cluster` and `redraw_head` are of `programs.clustering_program` and `programs.redraw_head_program`.
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
        # Threefry where draws must not depend on the number of devices; RBG, which compiles and runs faster, elsewhere.
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
    """RBG keys for a stage's draws on the devices: the new cluster head, and the steps' dropout and noise."""
    head_key, steps_key = jax.random.split(
        jax.random.key(np.random.SeedSequence(seed).generate_state(2)[1], impl="rbg")
    )
    return head_key, steps_key
