"""Which runs are complete, and what a complete one has found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from emocluster_jax.errors import InputError
from emocluster_jax.evaluation.prediction_file import TEST_PREDICTIONS, SentencePredictions, read_predictions
from emocluster_jax.evaluation.score_file import TEST_SCORES, read_scores
from emocluster_jax.evaluation.sentences import Scores
from emocluster_jax.experiment.grid import Run
from emocluster_jax.experiment.plan import Plan
from emocluster_jax.reporting.metrics_log import METRICS_FILE, read_metrics
from emocluster_jax.training.workdir import RUN_FILE, read_run


@dataclass(frozen=True, eq=False)
class CompletedRun:
    """A run that has ended.

    Attributes:
      run: what was run.
      scores: on the test split.
      sentences: the predictions behind the scores.
      metrics: of every epoch.
    """

    run: Run
    scores: Scores
    sentences: SentencePredictions
    metrics: list[dict[str, Any]]

    @property
    def best_epoch(self) -> int:
        """The epoch whose model was tested."""
        return self.metrics[-1]["best_epoch"]


def is_complete(plan: Plan, run: Run) -> bool:
    """Whether a run has ended and what it has found is that of these settings and data.

    Training removes the scores when it goes on and writes them when all else is there, so that they belong to the
    settings beside them.
    """
    folder = plan.folder(run)
    if not ((folder / RUN_FILE).exists() and (folder / TEST_PREDICTIONS).exists()):
        return False
    try:
        saved = read_run(folder)
        same = saved.config == plan.config(run) and saved.data in plan.data
        return same and run.attribute in read_scores(folder / TEST_SCORES)
    except InputError:
        return False


def epochs_done(plan: Plan, run: Run) -> int:
    """How many epochs a run has logged."""
    path = plan.folder(run) / METRICS_FILE
    return len(read_metrics(path)) if path.exists() else 0


def read_completed(plan: Plan, run: Run) -> CompletedRun:
    """What a run has found that `is_complete`.

    Raises:
      InputError: a damaged file.
    """
    folder = plan.folder(run)
    sentences = read_predictions(folder / TEST_PREDICTIONS)
    if sentences.attributes != (run.attribute,):
        raise InputError(f"{folder / TEST_PREDICTIONS} predicts {', '.join(sentences.attributes)}; remove {folder}")
    return CompletedRun(
        run, read_scores(folder / TEST_SCORES)[run.attribute], sentences, read_metrics(folder / METRICS_FILE)
    )
