"""One stage of one epoch: cluster the chunks, draw the batches, take the steps (paper, section 2.2)."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Int32

from emocluster_jax.clustering.embedding_transform import EmbeddingTransform
from emocluster_jax.clustering.sampling import balanced_indices, balanced_recordings, shuffled_indices
from emocluster_jax.config import TrainConfig
from emocluster_jax.console import Task
from emocluster_jax.feed.split import Inputs, Split
from emocluster_jax.inference.forward import Forward
from emocluster_jax.inference.model_directory import clustering_shapes
from emocluster_jax.objectives.stage import Stage
from emocluster_jax.runtime import parallel
from emocluster_jax.runtime.loops import in_segments
from emocluster_jax.training.augmentation import Windows, pairs
from emocluster_jax.training.not_finite import NotFinite
from emocluster_jax.training.steps import (
    LOGGED_STEPS,
    LOST_UPDATE,
    Step,
    StepArrays,
    StepLog,
    Trained,
    TrainState,
    empty_log,
    numbered_as_predicted,
)

TRAINING_COST = 3.0
"""How long a chunk takes in a training step, compared with a forward pass: a gradient takes as long as two."""
Seed = tuple[int, int, int]
"""(run's seed, epoch, stage number), which determine everything that is drawn in a stage."""


@dataclass
class Stopwatch:
    """Seconds by part of the epoch."""

    seconds: dict[str, float] = field(default_factory=dict)
    _inside: float = 0.0

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Adds the duration of the block, without that of parts inside, to `seconds[name]`."""
        started, before, self._inside = time.monotonic(), self._inside, 0.0
        yield
        took = time.monotonic() - started
        self.seconds[name] = self.seconds.get(name, 0.0) + took - self._inside
        self._inside = before + took


@dataclass(frozen=True)
class StageView:
    """How a running stage shows its progress in chunks, and learns whether to go on.

    `stop` is asked now and then, `pause`, for a checkpoint, after steps; both answer the same on all processes.
    """

    title: str
    task: Task
    watch: Stopwatch
    stop: Callable[[], bool]
    pause: Callable[[], bool] = lambda: False

    @contextmanager
    def part(self, name: str, description: str, *, idle: bool = False) -> Iterator[None]:
        """Shows the description, and adds the duration of the block to the epoch's part `name`.

        `idle` is for blocks in which no chunks are done.
        """
        before = self.task.detail
        self.task.describe(f"{self.title}: {description}")
        with self.watch.part(name), self.task.waiting() if idle else nullcontext():
            yield
        self.task.describe(before)

    def compiling(self) -> AbstractContextManager[None]:
        """The part in which a program is compiled."""
        return self.part("compile", "compiling", idle=True)


class Clusters(NamedTuple):
    """The pseudo-labels of a split's chunks, and the float32 centroids of the embeddings, projected if `fitted`."""

    assignments: Int[np.ndarray, " chunks"]
    fitted: EmbeddingTransform | None
    centroids: Float[np.ndarray, "K E"]


class ClusteringPrograms(NamedTuple):
    """Embeds a split, clusters it and draws a new cluster head; all but `forward` are from `steps`.

    With `predict`, the head is kept instead, and the clusters are numbered as it predicts them.
    """

    forward: Forward
    cluster: parallel.Program
    redraw_head: parallel.Program
    predict: parallel.Program | None = None
    balanced: bool = True


@dataclass(frozen=True)
class StagePrograms:
    """A stage with its data and compiled programs; the same for all epochs.

    Attributes:
      title: on the screen.
      source: the name of the split that it trains on, one of `config.SPLITS`.
      targets: z-normalised labels, NaN where missing.
      batch_chunks: chunks per batch over all devices.
      whole_recordings: whether batches consist of recordings, with their chunks in order, instead of chunks.
      log: of a step, from `steps.step_log`.
      classes: of the recordings, from `data.label_classes`; None where no information with them is wanted.
      clustering: None for systems without clusters; their batches are plainly shuffled.
      draw_windows: (an epoch's batches, generator) -> where their chunks are moved to; None if they are not.
    """

    stage: Stage
    title: str
    source: str
    split: Split
    targets: Float[np.ndarray, "utterances A"]
    batch_chunks: int
    whole_recordings: bool
    log: StepLog
    train: parallel.Program
    clustering: ClusteringPrograms | None
    draw_windows: Callable[[Int[np.ndarray, "steps batch"], np.random.Generator], Windows] | None = None
    classes: Int[np.ndarray, "utterances columns"] | None = None

    @property
    def together(self) -> int:
        """Consecutive chunks of a batch that belong to one recording."""
        return self.split.chunks_per_utterance if self.whole_recordings else 1

    @property
    def steps(self) -> int:
        """Steps per epoch."""
        return -(-self.split.chunk_count // self.batch_chunks)

    @property
    def trained_chunks(self) -> int:
        """Chunks that go through the network in all steps of an epoch."""
        return self.steps * self.batch_chunks

    @property
    def embedded_chunks(self) -> int:
        """Chunks that go through the network before the first step."""
        return 0 if self.clustering is None else self.split.chunk_count


class StageProgress(NamedTuple):
    """How far a stage of an epoch has come; with the network, all that it needs to continue.

    `clusters` is None for systems without; the log is of all steps, 0 for those to come; `steps` were taken.
    """

    clusters: Clusters | None
    log: StepLog
    steps: int

    @property
    def is_complete(self) -> bool:
        return self.steps == len(self.log.left_out)

    @property
    def means(self) -> StepLog:
        """Mean of every logged number over the steps that were not left out; NaN where all were."""
        used = ~self.log.left_out
        return jax.tree.map(lambda values: float(values[used].mean()) if used.any() else math.nan, self.log)


def progress_shape(programs: StagePrograms, config: TrainConfig) -> StageProgress:
    """A stage's progress with `jax.ShapeDtypeStruct`s instead of arrays."""
    clusters: Any = None
    if programs.clustering is not None:
        assignments: Any = jax.ShapeDtypeStruct((programs.split.chunk_count,), np.int32)
        clusters = Clusters(assignments, *clustering_shapes(config.model, config.clustering))
    log = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((programs.steps,), leaf.dtype), programs.log)
    steps: Any = jax.ShapeDtypeStruct((), np.int64)
    return StageProgress(clusters, log, steps)


def run_stage(
    programs: StagePrograms,
    state: TrainState,
    begun: StageProgress | None,
    seed: Seed,
    view: StageView,
    report: Callable[[NotFinite], None],
) -> tuple[TrainState, StageProgress]:
    """Trains the network for the rest of a stage, until it is done or the view asks to stop or pause.

    At least one step is taken between two pauses.

    Args:
      programs: the stage.
      state: the network, on every device; it must not be used afterwards.
      begun: what was done of the stage before; None for nothing.
      seed: determines all draws.
      view: shows progress.
      report: may raise for a step that was left out, and must for embeddings that cannot be clustered.

    Raises:
      StoppedError: the view asked to stop before there was anything worth keeping; `state` can still be used.
    """
    epoch, clusters = seed[1], None if begun is None else begun.clusters
    if begun is None and programs.clustering is not None:
        state, clusters = _cluster(programs, programs.clustering, state, seed, view, report)
    with view.part("batches", "drawing batches", idle=True):
        batches = draw_batches(programs, clusters, seed)
        windows, drawn, together = None, batches, programs.together
        if programs.draw_windows is not None:
            windows = programs.draw_windows(batches, np.random.default_rng((*seed, 1)))
            if together == 1:
                drawn, together = pairs(windows.lefts), 2
    begun = begun or StageProgress(clusters, empty_log(programs.log, len(batches)), 0)
    if view.stop():
        return state, begun
    log, done = jax.tree.map(np.array, begun.log), begun.steps
    trained = Trained(state, parallel.replicate(empty_log(programs.log, LOGGED_STEPS)))
    arrays_of = partial(_step_arrays, programs, clusters, batches, windows)
    _, key = _device_keys(seed)

    with programs.split.draws(drawn[done:], together) as rows:
        given: Any = None

        def arguments(number: int) -> tuple[Trained, StepArrays, Step]:
            epochs = np.float32(epoch - 1) + np.float32(number) / np.float32(len(batches))
            return trained, arrays_of(number, given), Step(key, np.int32(number), epochs)

        def segment(first: int, last: int) -> None:
            nonlocal trained, given
            for number in range(first, last):
                trained = programs.train(*arguments(number))
                given = next(rows, None)  # on its way while the devices compute
            numbers, recent = np.arange(first, last), jax.tree.leaves(parallel.first_replica(trained.log))
            for of_all, of_recent in zip(jax.tree.leaves(log), recent, strict=True):
                of_all[numbers] = of_recent[numbers % LOGGED_STEPS]
            for step in first + np.flatnonzero(log.left_out[first:last]):
                found = {name: float(value[step]) for name, value in log.terms.items()}
                if all(value == LOST_UPDATE for value in found.values()):
                    found = {"update": math.nan}
                report(NotFinite(epoch, programs.title, programs.source, int(step) + 1, found, batches[step]))
            view.task.advance((last - first) * programs.batch_chunks, TRAINING_COST)

        with view.compiling():
            given = next(rows)
            programs.train.lower(*arguments(done)).compile()
        with view.part("steps", "training"):
            steps = in_segments(
                len(batches), segment, first=done, longest=LOGGED_STEPS, stop=lambda: view.stop() or view.pause()
            )
            return trained.state, StageProgress(clusters, log, steps)


def _step_arrays(
    programs: StagePrograms,
    clusters: Clusters | None,
    batches: Int[np.ndarray, "steps batch"],
    windows: Windows | None,
    step: int,
    inputs: Inputs,
) -> StepArrays:
    """What a step reads of its batch, whose inputs are on the devices."""
    each, numbers = programs.split.chunks_per_utterance, parallel.own_shares(batches[step])
    pseudo_labels: Any = None if clusters is None else clusters.assignments[numbers]
    if windows is not None:
        lefts, begins, steps = (parallel.own_shares(np.asarray(values[step])) for values in windows)
        windows = Windows(lefts % each if programs.whole_recordings else np.zeros_like(lefts), begins, steps)
    targets: Any = programs.targets[numbers // each]
    classes: Any = None
    if programs.classes is not None:
        of_batch = _speakers_of_batch(programs.classes[batches[step] // each])
        classes = of_batch[parallel.own_shares(np.arange(len(of_batch)))]
    return StepArrays(inputs, pseudo_labels, targets, classes, windows)


def _speakers_of_batch(classes: Int[np.ndarray, "batch columns"]) -> Int32[np.ndarray, "batch columns"]:
    """With speakers numbered anew in the batch, so that a program does not depend on how many the corpus has."""
    _, numbers = np.unique(np.append(-1, classes[:, -1]), return_inverse=True)
    return np.column_stack([classes[:, :-1], numbers[1:] - 1]).astype(np.int32)


def _cluster(
    programs: StagePrograms,
    clustering: ClusteringPrograms,
    state: TrainState,
    seed: Seed,
    view: StageView,
    report: Callable[[NotFinite], None],
) -> tuple[TrainState, Clusters]:
    """The clusters of the network's embeddings, and the network with a cluster head for them."""
    # Threefry where draws must not depend on the number of devices; RBG, which compiles and runs faster, elsewhere.
    clustering_key = jax.random.key(np.random.SeedSequence(seed).generate_state(1)[0])
    head_key, _ = _device_keys(seed)
    count = programs.split.chunk_count
    with view.part("embed", "embedding"):
        forward = partial(clustering.forward, stop=view.stop, compiling=view.compiling)
        embeddings = forward(state.evaluated, programs.split, view.task.advance).embeddings
    with view.part("kmeans", "clustering", idle=True):
        fitted, found = clustering.cluster((), embeddings, clustering_key)
        assignments = parallel.collect(found.assignments, count)
        fitted, centroids, objective = parallel.first_replica((fitted, found.centroids, found.objective))
        if not np.isfinite(objective):  # a single embedding is enough
            chunks = np.flatnonzero(~parallel.collect(jnp.isfinite(embeddings).all(axis=-1), count))
            what = "embedding" if len(chunks) else "distance of embeddings"
            report(NotFinite(seed[1], programs.title, programs.source, 0, {what: math.nan}, chunks))
        if clustering.predict is None:
            state = clustering.redraw_head(state, (), head_key)
        else:
            predicted = parallel.collect(clustering.predict((), (embeddings, state.evaluated), ()), count)
            numbers = numbered_as_predicted(assignments, predicted, len(centroids))
            assignments, centroids = numbers[assignments], centroids[np.argsort(numbers)]
        del embeddings
    return state, Clusters(assignments, fitted, centroids)


def draw_batches(programs: StagePrograms, clusters: Clusters | None, seed: Seed) -> Int[np.ndarray, "steps batch"]:
    """The global chunk numbers of an epoch's full batches: every cluster equally often, or plainly shuffled."""
    rng, each = np.random.default_rng(seed), programs.together
    size = programs.batch_chunks // each
    if clusters is None or (programs.clustering is not None and not programs.clustering.balanced):
        units = shuffled_indices(programs.split.chunk_count // each, size, rng)
    elif programs.whole_recordings:
        units = balanced_recordings(clusters.assignments.reshape(-1, each), size, rng)
    else:
        units = balanced_indices(clusters.assignments, size, rng)
    return (units[..., None] * each + np.arange(each)).reshape(len(units), -1).astype(np.int32)


def _device_keys(seed: Seed) -> tuple[Array, Array]:
    """RBG keys for a stage's draws on the devices: the new cluster head, and the steps' dropout and noise."""
    key = jax.random.key(np.random.SeedSequence(seed).generate_state(2)[1], impl="rbg")
    head_key, steps_key = jax.random.split(key)
    return head_key, steps_key
