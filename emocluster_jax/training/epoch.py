"""One stage of one epoch: draw the batches, take the steps (paper, section 2.2)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Array, Bool, Float

from emocluster_jax import parallel
from emocluster_jax.errors import InputError
from emocluster_jax.segments import in_segments
from emocluster_jax.training.batches import Batches, Clusters, Seed, device_keys
from emocluster_jax.training.programs import Labels
from emocluster_jax.training.state import TrainState
from emocluster_jax.training.steps import Stage
from emocluster_jax.training.stopwatch import StageView


class DivergedError(InputError):
    """A loss became infinite or NaN; no checkpoint holds what came of it."""


@dataclass(frozen=True)
class StagePrograms:
    """A stage with its data and compiled programs; the same for all epochs.

    Attributes:
      stage: what is minimised.
      title: what to call it on the screen.
      batches: how they are drawn, and from which split.
      targets: (U, A) z-normalised labels, 0 where missing.
      present: (U, A) which of them exist.
      train: of `programs.training_program`.
    """

    stage: Stage
    title: str
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
      terms: mean of every loss term over the steps.
    """

    state: TrainState
    clusters: Clusters | None
    terms: dict[str, float]


def run_stage(
    programs: StagePrograms, state: TrainState, *, batch_chunks: int, seed: Seed, view: StageView
) -> StageResult:
    """Trains the network for one stage.

    Args:
      programs: the stage.
      state: the network before the stage, on every device; it is used up.
      batch_chunks: chunks a batch over all devices.
      seed: all that is drawn here follows from it.
      view: told what is going on.

    Raises:
      DivergedError: a loss is not finite.
    """
    state, batches, clusters = programs.batches.draw(state, batch_chunks, seed, view)
    labels = Labels(None if clusters is None else clusters.assignments, programs.targets, programs.present)
    terms = parallel.replicate({name: np.zeros(len(batches), np.float32) for name in programs.stage.terms})
    _, steps_key = device_keys(seed)
    epoch = seed[1]

    with programs.batches.split.draws(batches) as spans:

        def segment(first: int, last: int) -> None:
            nonlocal state, terms
            for chunks, begin, end in spans(first, last):
                state, terms = programs.train(
                    state, chunks, labels, batches, steps_key, terms, np.float32(epoch - 1), begin, end
                )
            values = parallel.first_replica(terms)
            _check_finite({name: value[first:last] for name, value in values.items()}, programs.title, epoch, first)
            view.task.advance((last - first) * batch_chunks)

        with view.part("compile", "compiling"):
            segment(0, 0)  # no step: only to know how long the program takes to compile
        with view.part("steps", "training"):
            in_segments(len(batches), segment)
            values = parallel.first_replica(terms)
    return StageResult(state, clusters, {name: float(values[name].mean()) for name in programs.stage.terms})


def _check_finite(terms: dict[str, np.ndarray], title: str, epoch: int, first: int) -> None:
    for name, values in terms.items():
        bad = np.flatnonzero(~np.isfinite(values))
        if len(bad):
            raise DivergedError(
                f"epoch {epoch}, {title}, step {first + bad[0] + 1}: the {name.replace('_', ' ')} is {values[bad[0]]}; "
                "lower the learning rates and resume from the epoch before"
            )
