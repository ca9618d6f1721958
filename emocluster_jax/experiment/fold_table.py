"""The table over folds: how well each system predicts speakers that it never heard."""

from __future__ import annotations

import dataclasses
import math
from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from emocluster_jax.evaluation.metrics import ccc
from emocluster_jax.experiment.completed import CompletedRun, Results, completed_trials, summarize
from emocluster_jax.experiment.grid import Grid, table_attributes, table_settings
from emocluster_jax.experiment.tables import (
    Record,
    ResultTable,
    finite_or_none,
    full_name,
    missing_note,
    summary_text,
)


def fold_table(grid: Grid, results: Results, corpus: str) -> ResultTable:
    """Mean and deviation over folds of the test CCC, and the CCC of all folds' test sentences together."""
    attributes = table_attributes(grid, "folds")
    rows: list[tuple[str, ...]] = []
    records: list[Record] = []
    undefined = 0
    for setting in table_settings(grid, "folds"):
        row = [full_name(setting)]
        for attribute in attributes:
            trials = completed_trials(grid, results, setting, attribute)
            undefined += sum(math.isnan(trial.scores.ccc) for trial in trials)
            over_folds, pooled = summarize(_by_fold(trials)), summarize(_pooled(grid, trials))
            row += [summary_text(over_folds, grid.fold_count), summary_text(pooled, grid.trials)]
            records.append(
                {
                    **dataclasses.asdict(setting),
                    "attribute": attribute,
                    "folds": over_folds.trials,
                    "trials": len({trial.run.seed for trial in trials}),
                    "test_ccc_mean": finite_or_none(over_folds.mean),
                    "test_ccc_deviation": finite_or_none(over_folds.deviation),
                    "pooled_ccc_mean": finite_or_none(pooled.mean),
                    "pooled_ccc_deviation": finite_or_none(pooled.deviation),
                }
            )
        rows.append(tuple(row))
    header = ("system", *(column for name in attributes for column in (name, f"{name}, pooled")))
    each, over = "", ""
    if grid.trials > 1:
        each = f", each the mean over {grid.trials} trials"
        over = f"; mean ± standard deviation over {grid.trials} trials"
    notes = [
        f"Mean ± standard deviation over {grid.fold_count} folds{each}, or over the number in brackets.",
        "Pooled: one CCC over the test sentences of all folds, each predicted by the run that tests on its fold"
        f"{over}.",
    ]
    if undefined:
        notes.append(f"{undefined} runs are left out of the mean: their fold has no labels, or no finite prediction.")
    title = f"Test CCC over {grid.fold_count} folds by speaker of {corpus}"
    return ResultTable(
        "folds", title, header, tuple(rows), (*notes, *missing_note(grid, "folds", results)), tuple(records)
    )


def _by_fold(trials: Sequence[CompletedRun]) -> list[float]:
    """The mean CCC over the trials of each fold that has one."""
    found: defaultdict[int | None, list[float]] = defaultdict(list)
    for trial in trials:
        if math.isfinite(trial.scores.ccc):
            found[trial.run.fold].append(trial.scores.ccc)
    return [float(np.mean(of_fold)) for of_fold in found.values()]


def _pooled(grid: Grid, trials: Sequence[CompletedRun]) -> list[float]:
    """The CCC over the test sentences of all folds together, for each trial that has completed them all."""
    by_seed: defaultdict[int, list[CompletedRun]] = defaultdict(list)
    for trial in trials:
        by_seed[trial.run.seed].append(trial)
    return [
        ccc(
            np.concatenate([run.sentences.predictions[:, 0] for run in runs]),
            np.concatenate([run.sentences.truth[:, 0] for run in runs]),
        )
        for runs in by_seed.values()
        if len(runs) == grid.fold_count
    ]
