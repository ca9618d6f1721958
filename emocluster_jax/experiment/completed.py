"""The complete runs of a grid, what they found, and means and deviations over their trials."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from emocluster_jax.errors import InputError
from emocluster_jax.evaluation import run_results
from emocluster_jax.evaluation.metrics import Scores
from emocluster_jax.evaluation.run_results import SentencePredictions
from emocluster_jax.experiment.grid import Plan, Run, Setting
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
    def best(self) -> dict[str, Any]:
        """The metrics of the tested model's epoch."""
        return next(epoch for epoch in self.metrics if epoch["epoch"] == self.metrics[-1]["best_epoch"])

    @property
    def validation_ccc(self) -> float | None:
        """That of this epoch, of the run's attribute; None where there is none."""
        return (self.best.get("validation_ccc") or {}).get(self.run.attribute)


Results = Mapping[Run, CompletedRun]
"""The runs that are complete, sorted by seed and, with folds, by fold."""


def is_complete(plan: Plan, run: Run) -> bool:
    """Whether a run has finished with the plan's settings and data."""
    return _read_test(plan, run) is not None


def read_completed(plan: Plan, run: Run) -> CompletedRun | None:
    """Reads a run; None unless it `is_complete`, InputError if its metrics are damaged or of another run."""
    test = _read_test(plan, run)
    if test is None:
        return None
    run_id, scores, sentences = test
    path = plan.folder(run) / METRICS_FILE
    metrics = read_metrics(path, run_id)
    best_epoch = metrics[-1].get("best_epoch") if metrics else None
    if best_epoch not in [epoch["epoch"] for epoch in metrics]:
        raise InputError(f"{path} lacks the epoch that was kept; remove {path.parent} and run it again")
    return CompletedRun(run, scores, sentences, metrics)


def _read_test(plan: Plan, run: Run) -> tuple[str, Scores, SentencePredictions] | None:
    """A complete run's id, scores and predictions.

    Training removes the scores when it resumes and writes them last, so they belong to the settings beside them.
    """
    folder = plan.folder(run)
    try:
        saved = read_run(folder)
        if saved.config != plan.config(run) or saved.data not in plan.data:
            return None
        kept = run_results.read_run_scores(folder / run_results.TEST_SCORES, saved.id)
        sentences = run_results.read_test_predictions(folder / run_results.TEST_PREDICTIONS, kept.predictions_sha256)
    except InputError:
        return None
    if run.attribute not in kept.scores or sentences.attributes != (run.attribute,):
        return None
    return saved.id, kept.scores[run.attribute], sentences


def epochs_done(plan: Plan, run: Run) -> int:
    """How many epochs a run has logged; InputError for a damaged file, or one of another run."""
    folder = plan.folder(run)
    if not ((folder / RUN_FILE).exists() and (folder / METRICS_FILE).exists()):
        return 0
    return len(read_metrics(folder / METRICS_FILE, read_run(folder).id))


class Summary(NamedTuple):
    """Mean and sample standard deviation (n - 1) over trials, or folds; NaN where there are too few of them."""

    trials: int
    mean: float
    deviation: float


def summarize(values: Sequence[float]) -> Summary:
    mean = float(np.mean(values)) if len(values) else math.nan
    deviation = float(np.std(values, ddof=1)) if len(values) > 1 else math.nan
    return Summary(len(values), mean, deviation)


def completed_trials(results: Results, setting: Setting, attribute: str) -> list[CompletedRun]:
    """The complete trials of a setting, in the order of the results."""
    return [done for run, done in results.items() if (run.setting, run.attribute) == (setting, attribute)]


def epoch_means(trials: Sequence[CompletedRun]) -> list[dict[str, Any]]:
    """By epoch, the number of trials (of all folds) that have it, and means over those with a number; None without any.

    The means are of the validation CCC, and of the NMI of labelled and unlabelled clusters with the previous epoch's.
    """
    by_epoch: defaultdict[int, list[dict[str, float | None]]] = defaultdict(list)
    for trial in trials:
        for metrics in trial.metrics:
            row = {
                "validation_ccc": (metrics.get("validation_ccc") or {}).get(trial.run.attribute),
                "nmi": metrics.get("nmi_previous"),
                "nmi_unlabeled": metrics.get("nmi_previous_unlabeled"),
            }
            by_epoch[metrics["epoch"]].append(row)
    return [
        {"epoch": epoch, "trials": len(rows), **{name: _mean([row[name] for row in rows]) for name in rows[0]}}
        for epoch, rows in sorted(by_epoch.items())
    ]


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None
