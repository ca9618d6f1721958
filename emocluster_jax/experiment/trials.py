"""What the trials of a setting have in common: means and deviations of scores, and of an epoch's metrics."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from emocluster_jax.experiment.completed import CompletedRun
from emocluster_jax.experiment.grid import Grid, Run, Setting

Results = Mapping[Run, CompletedRun]
"""The runs that are complete."""


@dataclass(frozen=True)
class Summary:
    """Mean and sample standard deviation (n - 1) over trials, or folds; NaN where there are too few of them."""

    trials: int
    mean: float
    deviation: float


def summarize(values: Sequence[float]) -> Summary:
    """The summary of one number a trial."""
    numbers = np.asarray(values, np.float64)
    mean = float(numbers.mean()) if len(numbers) else math.nan
    deviation = float(numbers.std(ddof=1)) if len(numbers) > 1 else math.nan
    return Summary(len(numbers), mean, deviation)


def completed_trials(grid: Grid, results: Results, setting: Setting, attribute: str) -> list[CompletedRun]:
    """The complete trials of a setting, by seed, and of data with folds by fold."""
    runs = [Run(setting, attribute, seed, fold) for seed in range(grid.trials) for fold in grid.folds]
    return [results[run] for run in runs if run in results]


@dataclass(frozen=True)
class EpochMeans:
    """An epoch, over the trials (of all folds) that have come so far; None where no trial has a number.

    Attributes:
      epoch: from 1.
      trials: those that have this epoch.
      validation_ccc: of the run's attribute.
      nmi: of the clusters of the labelled recordings with those of the epoch before.
      nmi_unlabeled: the same of the unlabelled pool.
    """

    epoch: int
    trials: int
    validation_ccc: float | None
    nmi: float | None
    nmi_unlabeled: float | None


def epoch_means(trials: Sequence[CompletedRun]) -> list[EpochMeans]:
    """The means over trials of what training logged, epoch by epoch."""
    by_epoch: dict[int, list[dict[str, float | None]]] = {}
    for trial in trials:
        for metrics in trial.metrics:
            validation = (metrics.get("validation_ccc") or {}).get(trial.run.attribute)
            by_epoch.setdefault(metrics["epoch"], []).append(
                {
                    "validation_ccc": validation,
                    "nmi": metrics.get("nmi_previous"),
                    "nmi_unlabeled": metrics.get("nmi_previous_unlabeled"),
                }
            )
    return [
        EpochMeans(epoch, len(rows), **{name: _mean([row[name] for row in rows]) for name in rows[0]})
        for epoch, rows in sorted(by_epoch.items())
    ]


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None
