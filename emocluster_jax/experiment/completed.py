"""Which runs are complete, and what a complete one has found."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from emocluster_jax.errors import InputError
from emocluster_jax.evaluation.run_results import (
    TEST_PREDICTIONS,
    TEST_SCORES,
    RunScores,
    SentencePredictions,
    read_predictions,
    read_run_scores,
)
from emocluster_jax.evaluation.sentences import Scores
from emocluster_jax.experiment.grid import Run
from emocluster_jax.experiment.plan import Plan
from emocluster_jax.training.metrics_log import METRICS_FILE, read_metrics
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
        if saved.config != plan.config(run) or saved.data not in plan.data:
            return False
        kept = read_run_scores(folder / TEST_SCORES, saved.id)
        _predictions(folder, kept, run)
        return run.attribute in kept.scores
    except InputError:
        return False


def epochs_done(plan: Plan, run: Run) -> int:
    """How many epochs a run has logged.

    Raises:
      InputError: a damaged file, or one of another run.
    """
    folder = plan.folder(run)
    if not ((folder / RUN_FILE).exists() and (folder / METRICS_FILE).exists()):
        return 0
    return len(read_metrics(folder / METRICS_FILE, read_run(folder).id))


def read_completed(plan: Plan, run: Run) -> CompletedRun:
    """What a run has found that `is_complete`.

    Raises:
      InputError: a damaged file, or one of another run.
    """
    folder = plan.folder(run)
    run_id = read_run(folder).id
    kept = read_run_scores(folder / TEST_SCORES, run_id)
    metrics = read_metrics(folder / METRICS_FILE, run_id)
    best_epoch = metrics[-1].get("best_epoch") if metrics else None
    if best_epoch not in [epoch["epoch"] for epoch in metrics]:
        raise InputError(f"{folder / METRICS_FILE} lacks the epoch that was kept; remove {folder} and run it again")
    return CompletedRun(run, kept.scores[run.attribute], _predictions(folder, kept, run), metrics)


def _predictions(folder: Path, kept: RunScores, run: Run) -> SentencePredictions:
    """Those that the scores are of."""
    sentences = read_predictions(folder / TEST_PREDICTIONS, kept.predictions_sha256)
    if sentences.attributes != (run.attribute,):
        raise InputError(f"{folder / TEST_PREDICTIONS} predicts {', '.join(sentences.attributes)}; remove {folder}")
    return sentences
