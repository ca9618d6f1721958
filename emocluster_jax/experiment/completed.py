"""The complete runs of a grid, what they found, and means and deviations over their trials."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

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
from emocluster_jax.experiment.grid import Grid, Run, Setting
from emocluster_jax.experiment.plan import Plan
from emocluster_jax.training.metrics_log import METRICS_FILE, read_metrics
from emocluster_jax.training.workdir import RUN_FILE, read_run


@dataclass(frozen=True, eq=False)
class CompletedRun:
    """A finished run: its test scores, the predictions behind them, and the metrics of every epoch."""

    run: Run
    scores: Scores
    sentences: SentencePredictions
    metrics: list[dict[str, Any]]

    @property
    def best_epoch(self) -> int:
        """The epoch of the tested model."""
        return self.metrics[-1]["best_epoch"]


def is_complete(plan: Plan, run: Run) -> bool:
    """Whether a run has finished with the plan's settings and data.

    Training removes the scores when it resumes and writes them last, so they belong to the settings beside them.
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
    """How many epochs a run has logged; InputError for a damaged file, or one of another run."""
    folder = plan.folder(run)
    if not ((folder / RUN_FILE).exists() and (folder / METRICS_FILE).exists()):
        return 0
    return len(read_metrics(folder / METRICS_FILE, read_run(folder).id))


def read_completed(plan: Plan, run: Run) -> CompletedRun:
    """Reads a run that `is_complete`; InputError for a damaged file, or one of another run."""
    folder = plan.folder(run)
    run_id = read_run(folder).id
    kept = read_run_scores(folder / TEST_SCORES, run_id)
    metrics = read_metrics(folder / METRICS_FILE, run_id)
    best_epoch = metrics[-1].get("best_epoch") if metrics else None
    if best_epoch not in [epoch["epoch"] for epoch in metrics]:
        raise InputError(f"{folder / METRICS_FILE} lacks the epoch that was kept; remove {folder} and run it again")
    return CompletedRun(run, kept.scores[run.attribute], _predictions(folder, kept, run), metrics)


def _predictions(folder: Path, kept: RunScores, run: Run) -> SentencePredictions:
    """The predictions behind the scores."""
    sentences = read_predictions(folder / TEST_PREDICTIONS, kept.predictions_sha256)
    if sentences.attributes != (run.attribute,):
        raise InputError(f"{folder / TEST_PREDICTIONS} predicts {', '.join(sentences.attributes)}; remove {folder}")
    return sentences


Results = Mapping[Run, CompletedRun]
"""The runs that are complete."""


@dataclass(frozen=True)
class Summary:
    """Mean and sample standard deviation (n - 1) over trials, or folds; NaN where there are too few of them."""

    trials: int
    mean: float
    deviation: float


def summarize(values: Sequence[float]) -> Summary:
    numbers = np.asarray(values, np.float64)
    mean = float(numbers.mean()) if len(numbers) else math.nan
    deviation = float(numbers.std(ddof=1)) if len(numbers) > 1 else math.nan
    return Summary(len(numbers), mean, deviation)


def completed_trials(grid: Grid, results: Results, setting: Setting, attribute: str) -> list[CompletedRun]:
    """The complete trials of a setting, sorted by seed and, with folds, by fold."""
    runs = [Run(setting, attribute, seed, fold) for seed in range(grid.trials) for fold in grid.folds]
    return [results[run] for run in runs if run in results]


@dataclass(frozen=True)
class EpochMeans:
    """Means over the trials (of all folds) that have this epoch; None if no trial has a number.

    Attributes:
      epoch: from 1.
      trials: how many have this epoch.
      validation_ccc: of the run's attribute.
      nmi: of the labelled recordings' clusters with those of the previous epoch.
      nmi_unlabeled: the same for the unlabelled pool.
    """

    epoch: int
    trials: int
    validation_ccc: float | None
    nmi: float | None
    nmi_unlabeled: float | None


def epoch_means(trials: Sequence[CompletedRun]) -> list[EpochMeans]:
    """The means over trials of the logged metrics, epoch by epoch."""
    by_epoch: dict[int, list[tuple[float | None, ...]]] = {}
    for trial in trials:
        for metrics in trial.metrics:
            validation = (metrics.get("validation_ccc") or {}).get(trial.run.attribute)
            nmi = (metrics.get("nmi_previous"), metrics.get("nmi_previous_unlabeled"))
            by_epoch.setdefault(metrics["epoch"], []).append((validation, *nmi))
    return [
        EpochMeans(epoch, len(rows), *map(_mean, zip(*rows, strict=True))) for epoch, rows in sorted(by_epoch.items())
    ]


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None
