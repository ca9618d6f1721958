"""One stage of one epoch: draw the batches, take the steps (paper, section 2.2)."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Bool, Float, Int

from emocluster_jax.objectives.stage import Stage
from emocluster_jax.runtime import parallel
from emocluster_jax.runtime.loops import in_segments
from emocluster_jax.training.batches import Batches, Clusters, EmbeddingError, Seed, StageView, device_keys
from emocluster_jax.training.not_finite import NotFinite
from emocluster_jax.training.programs import Labels, StageArrays, StepRange, Trained
from emocluster_jax.training.state import TrainState
from emocluster_jax.training.steps import LOST_UPDATE, StepLog, empty_log


@dataclass(frozen=True)
class StagePrograms:
    """A stage with its data and compiled programs; the same for all epochs.

    Attributes:
      stage: what is minimised.
      title: what to call it on the screen.
      source: the split that it trains on, one of `config.SPLITS`.
      log: of a step, from `steps.step_log`.
      batches: how they are drawn, and from which recordings.
      targets: z-normalised labels, 0 where missing.
      present: which of them exist.
      train: from `programs.training_program`.
    """

    stage: Stage
    title: str
    source: str
    log: StepLog
    batches: Batches
    targets: Float[np.ndarray, "utterances A"]
    present: Bool[np.ndarray, "utterances A"]
    train: Callable[[Trained, StageArrays, StepRange], Trained]


class StageProgress(NamedTuple):
    """How far a stage of an epoch has come; with the network, all that it needs to continue.

    Attributes:
      clusters: None for systems without clusters.
      log: of all steps; 0 for the steps to come.
      steps: those that were taken.
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


def progress_shape(programs: StagePrograms, batch_chunks: int) -> StageProgress:
    """A stage's progress with `jax.ShapeDtypeStruct`s instead of arrays."""
    steps = -(-programs.batches.split.chunk_count // batch_chunks)
    log = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((steps,), leaf.dtype), programs.log)
    shape: Any = (programs.batches.clusters_shape, log, jax.ShapeDtypeStruct((), np.int64))
    return StageProgress(*shape)


def run_stage(
    programs: StagePrograms,
    state: TrainState,
    begun: StageProgress | None,
    *,
    batch_chunks: int,
    seed: Seed,
    view: StageView,
    report: Callable[[NotFinite], None],
) -> tuple[TrainState, StageProgress]:
    """Trains the network for the rest of a stage, until it is done or the view asks to stop or pause.

    At least one step is taken between two pauses.

    Args:
      programs: the stage.
      state: the network before the stage, or as it was left, on every device; it must not be used afterwards.
      begun: what was done of the stage before; None for nothing.
      batch_chunks: chunks per batch over all devices.
      seed: determines all draws.
      view: shows progress.
      report: called with steps that were left out, when it may raise to stop the run, and with embeddings that cannot
        be clustered, when it must raise.

    Returns:
      The network, on every device, and how far the stage has come.

    Raises:
      StoppedError: the view asked to stop before there was anything worth keeping; `state` can still be used.
    """
    epoch = seed[1]

    def not_finite(step: int, numbers: dict[str, float], chunks: Int[np.ndarray, " n"]) -> NotFinite:
        return NotFinite(epoch, programs.title, programs.source, step, numbers, chunks)

    if begun is None:
        try:
            state, clusters = programs.batches.begin(state, seed, view)
        except EmbeddingError as error:
            what = "embedding" if len(error.chunks) else "distance of embeddings"
            report(not_finite(0, {what: math.nan}, error.chunks))
            raise
    else:
        clusters = begun.clusters
    with view.part("batches", "drawing batches"):
        batches = programs.batches.draw(clusters, batch_chunks, seed)
    if begun is None:
        begun = StageProgress(clusters, empty_log(programs.log, len(batches)), 0)
    if view.stop():
        return state, begun
    labels = Labels(None if clusters is None else clusters.assignments, programs.targets, programs.present)
    # Once for all steps, since a streamed split calls the program for each of them.
    labels, table, log = parallel.replicate((labels, batches, begun.log))
    trained, done = Trained(state, log), begun.steps
    _, steps_key = device_keys(seed)

    with programs.batches.split.draws(batches[done:], programs.batches.together) as spans:

        def segment(first: int, last: int) -> None:
            nonlocal trained
            for given, begin, end in spans(first - done, last - done):
                arrays = StageArrays(given, labels, table)
                steps = StepRange(steps_key, np.float32(epoch - 1), done + begin, done + end)
                trained = programs.train(trained, arrays, steps)
            log = parallel.first_replica(trained.log)
            for step in first + np.flatnonzero(log.left_out[first:last]):
                found = {name: float(value[step]) for name, value in log.terms.items()}
                lost_update = all(value == LOST_UPDATE for value in found.values())
                report(not_finite(int(step) + 1, {"update": math.nan} if lost_update else found, batches[step]))
            view.task.advance((last - first) * batch_chunks)

        with view.part("compile", "compiling"):
            segment(done, done)  # no step: only to know how long the program takes to compile
        with view.part("steps", "training"):
            steps = in_segments(len(batches), segment, first=done, stop=lambda: view.stop() or view.pause())
            return trained.state, StageProgress(clusters, parallel.first_replica(trained.log), steps)
