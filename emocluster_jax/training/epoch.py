"""One stage of one epoch: draw the batches, take the steps (paper, section 2.2)."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Array, Bool, Float, Int

from emocluster_jax import parallel
from emocluster_jax.segments import in_segments
from emocluster_jax.training.batches import Batches, Clusters, EmbeddingError, Seed, device_keys
from emocluster_jax.training.not_finite import NotFinite
from emocluster_jax.training.programs import Labels
from emocluster_jax.training.state import TrainState
from emocluster_jax.training.steps import LOST_UPDATE, Stage
from emocluster_jax.training.stopwatch import StageView


@dataclass(frozen=True)
class StagePrograms:
    """A stage with its data and compiled programs; the same for all epochs.

    Attributes:
      stage: what is minimised.
      title: what to call it on the screen.
      source: the split that it trains on, one of `config.SPLITS`.
      batches: how they are drawn, and from which split.
      targets: (U, A) z-normalised labels, 0 where missing.
      present: (U, A) which of them exist.
      train: of `programs.training_program`.
    """

    stage: Stage
    title: str
    source: str
    batches: Batches
    targets: Float[np.ndarray, "utterances A"]
    present: Bool[np.ndarray, "utterances A"]
    train: Callable[..., tuple[TrainState, dict[str, Array]]]


@dataclass(frozen=True)
class StageResult:
    """What a stage leaves behind.

    Attributes:
      state: the network after it, on every device.
      clusters: the clusters that it trained on; None for systems without clusters.
      terms: mean of every loss term over the steps that were not left out; NaN where all were.
      steps: how many there were.
      left_out: how many of them changed nothing, since their loss or update was not finite.
    """

    state: TrainState
    clusters: Clusters | None
    terms: dict[str, float]
    steps: int
    left_out: int


def run_stage(
    programs: StagePrograms,
    state: TrainState,
    *,
    batch_chunks: int,
    seed: Seed,
    view: StageView,
    report: Callable[[NotFinite], None],
) -> StageResult:
    """Trains the network for one stage.

    Args:
      programs: the stage.
      state: the network before the stage, on every device; it is used up.
      batch_chunks: chunks a batch over all devices.
      seed: all that is drawn here follows from it.
      view: told what is going on.
      report: told, soon after, of steps that were left out, and of embeddings that cannot be clustered, where it must
        raise; it may raise to stop the run.
    """
    epoch = seed[1]

    def not_finite(step: int, numbers: dict[str, float], chunks: Int[np.ndarray, " n"]) -> NotFinite:
        return NotFinite(epoch, programs.title, programs.source, step, numbers, chunks)

    try:
        state, batches, clusters = programs.batches.draw(state, batch_chunks, seed, view)
    except EmbeddingError as error:
        report(not_finite(0, {"embedding" if len(error.chunks) else "distance of embeddings": math.nan}, error.chunks))
        raise
    labels = Labels(None if clusters is None else clusters.assignments, programs.targets, programs.present)
    terms = parallel.replicate({name: np.zeros(len(batches), np.float32) for name in programs.stage.terms})
    _, steps_key = device_keys(seed)

    with programs.batches.split.draws(batches) as spans:

        def segment(first: int, last: int) -> None:
            nonlocal state, terms
            for chunks, begin, end in spans(first, last):
                state, terms = programs.train(
                    state, chunks, labels, batches, steps_key, terms, np.float32(epoch - 1), begin, end
                )
            values = parallel.first_replica(terms)
            for step in first + np.flatnonzero(_left_out(values)[first:last]):
                found = {name: float(value[step]) for name, value in values.items()}
                lost_update = all(value == LOST_UPDATE for value in found.values())
                report(not_finite(int(step) + 1, {"gradient": math.nan} if lost_update else found, batches[step]))
            view.task.advance((last - first) * batch_chunks)

        with view.part("compile", "compiling"):
            segment(0, 0)  # no step: only to know how long the program takes to compile
        with view.part("steps", "training"):
            in_segments(len(batches), segment)
            values = parallel.first_replica(terms)
    left_out = _left_out(values)
    used = {name: value[~left_out] for name, value in values.items()}
    means = {name: math.nan if left_out.all() else float(used[name].mean()) for name in programs.stage.terms}
    return StageResult(state, clusters, means, len(batches), int(left_out.sum()))


def _left_out(terms: dict[str, np.ndarray]) -> Bool[np.ndarray, " steps"]:
    """Which steps changed nothing, by their terms; see `train_step`."""
    return ~np.isfinite(np.stack(list(terms.values()))).all(axis=0)
