"""One stage of one epoch: embed, cluster, draw balanced batches, take the steps (paper, section 2.2)."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import jax
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from emocluster_jax import parallel
from emocluster_jax.clustering.embedding_transform import EmbeddingTransform
from emocluster_jax.clustering.sampling import balanced_indices
from emocluster_jax.errors import InputError
from emocluster_jax.evaluation.forward import Forward
from emocluster_jax.feed.split import Split
from emocluster_jax.reporting.console import Task
from emocluster_jax.segments import in_segments
from emocluster_jax.training.programs import Clustering, Labels
from emocluster_jax.training.state import TrainState
from emocluster_jax.training.steps import Stage


class DivergedError(InputError):
    """A loss became infinite or NaN; no checkpoint holds what came of it."""


@dataclass(frozen=True)
class StagePrograms:
    """A stage with its data and compiled programs; the same for all epochs.

    Attributes:
      stage: what is minimised.
      title: what to call it on the screen.
      split: the chunks that it trains on.
      targets: (U, A) z-normalised labels, 0 where missing.
      present: (U, A) which of them exist.
      cluster: of `programs.clustering_program`.
      redraw_head: of `programs.redraw_head_program`.
      train: of `programs.training_program`.
    """

    stage: Stage
    title: str
    split: Split
    targets: Float[np.ndarray, "utterances A"]
    present: Bool[np.ndarray, "utterances A"]
    cluster: Callable[[Array, Array], Clustering]
    redraw_head: Callable[[TrainState, Array], TrainState]
    train: Callable[..., tuple[TrainState, dict[str, Array]]]


@dataclass(frozen=True)
class StageResult:
    """What a stage leaves behind.

    Attributes:
      state: the network after it, on every device.
      assignments: (chunks,) int32, the pseudo-labels it trained on.
      fitted: the principal components that the embeddings were projected on; None without them.
      centroids: (K, E) float32, of the projected embeddings.
      terms: mean of every loss term over the steps.
    """

    state: TrainState
    assignments: Int[np.ndarray, " chunks"]
    fitted: EmbeddingTransform | None
    centroids: Float[np.ndarray, "K E"]
    terms: dict[str, float]


@dataclass
class Stopwatch:
    """Seconds by part of the epoch."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Adds the time that the block takes to `seconds[name]`."""
        started = time.monotonic()
        yield
        self.seconds[name] = self.seconds.get(name, 0.0) + time.monotonic() - started


def run_stage(
    programs: StagePrograms,
    forward: Forward,
    state: TrainState,
    *,
    batch_chunks: int,
    seed: tuple[int, int, int],
    task: Task,
    watch: Stopwatch,
) -> StageResult:
    """Clusters the stage's chunks by what the network makes of them, and trains the network on the clusters.

    Args:
      programs: the stage.
      forward: runs the network in evaluation mode.
      state: the network before the stage, on every device; it is used up.
      batch_chunks: chunks a batch over all devices.
      seed: (run's seed, epoch, stage number): all that is drawn here follows from it.
      task: advances by the chunks that are done.
      watch: told how long each part takes.

    Raises:
      DivergedError: a loss is not finite.
    """
    stage, split = programs.stage, programs.split
    # Threefry for what must not depend on the number of devices; RBG, quick to compile and to run, for the rest.
    clustering_key = jax.random.key(np.random.SeedSequence(seed).generate_state(1)[0])
    head_key, dropout_key = jax.random.split(
        jax.random.key(np.random.SeedSequence(seed).generate_state(2)[1], impl="rbg")
    )

    with watch.part("embed"):
        task.describe(f"{programs.title}: embedding")
        outputs = forward(state.variables, split, task.advance)
    with watch.part("kmeans"):
        task.describe(f"{programs.title}: clustering")
        fitted, clusters = programs.cluster(clustering_key, outputs.embeddings)
        assignments = parallel.collect(clusters.assignments, split.chunk_count)
        fitted, centroids = parallel.first_replica((fitted, clusters.centroids))
        del outputs

    with watch.part("batches"):
        batches = balanced_indices(assignments, batch_chunks, np.random.default_rng(seed)).astype(np.int32)
        state = programs.redraw_head(state, head_key)
        labels = Labels(assignments, programs.targets, programs.present)
        terms = parallel.replicate({name: np.zeros(len(batches), np.float32) for name in stage.terms})

    with split.draws(batches) as spans:

        def segment(first: int, last: int) -> None:
            nonlocal state, terms
            for chunks, begin, end in spans(first, last):
                state, terms = programs.train(state, chunks, labels, batches, dropout_key, terms, begin, end)
            values = parallel.first_replica(terms)
            _check_finite({name: value[first:last] for name, value in values.items()}, programs.title, seed[1], first)
            task.advance((last - first) * batch_chunks)

        with watch.part("compile"):
            task.describe(f"{programs.title}: compiling")
            segment(0, 0)  # no step: only to know how long the program takes to compile
        with watch.part("steps"):
            task.describe(f"{programs.title}: training")
            in_segments(len(batches), segment)
            means = {name: float(values.mean()) for name, values in parallel.first_replica(terms).items()}
    return StageResult(state, assignments, fitted, centroids, means)


def _check_finite(terms: dict[str, np.ndarray], title: str, epoch: int, first: int) -> None:
    for name, values in terms.items():
        bad = np.flatnonzero(~np.isfinite(values))
        if len(bad):
            raise DivergedError(
                f"epoch {epoch}, {title}, step {first + bad[0] + 1}: the {name.replace('_', ' ')} is {values[bad[0]]}; "
                "lower the learning rates and resume from the epoch before"
            )
