"""From complete runs to the paper's tables and figures; what is missing is left out and counted."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from emocluster_jax.console import Console
from emocluster_jax.errors import InputError
from emocluster_jax.evaluation.cluster_extremes import ClusterExtremes, cluster_extremes
from emocluster_jax.evaluation.run_results import TEST_PREDICTIONS
from emocluster_jax.experiment.comparisons import compare, pairs
from emocluster_jax.experiment.completed import CompletedRun, is_complete, read_completed
from emocluster_jax.experiment.fold_table import fold_table
from emocluster_jax.experiment.grid import Grid, Run, all_runs, table_attributes, table_runs, table_settings
from emocluster_jax.experiment.paper_figures import epoch_curves, extreme_distributions, unlabeled_size_curves
from emocluster_jax.experiment.plan import Plan
from emocluster_jax.experiment.table_files import write_records, write_table
from emocluster_jax.experiment.tables import (
    Record,
    ResultTable,
    ccc_table,
    extremes_table,
    finite_or_none,
    significance_table,
)
from emocluster_jax.experiment.trials import Results, completed_trials, epoch_means
from emocluster_jax.records.reader import open_data
from emocluster_jax.training.workdir import read_run, read_training_clusters

RESULTS = "results.csv"
TABLES = "tables"
FIGURES = "figures"


@dataclass(frozen=True)
class Collected:
    """What there is of a grid.

    Attributes:
      tables: those asked for, and the significance of their differences.
      missing: runs that are not complete.
    """

    tables: tuple[ResultTable, ...]
    missing: int


def collect(plan: Plan, corpus: str, console: Console) -> Collected:
    """Writes `results.csv`, `tables/` and `figures/` into the plan's work directory.

    Args:
      plan: the grid and where it is.
      corpus: its name.
      console: shows how far it is.

    Raises:
      InputError: a file of a run is damaged, or another run's, or nothing can be written.
    """
    grid, runs = plan.grid, all_runs(plan.grid)
    tables, figures = plan.workdir / TABLES, plan.workdir / FIGURES
    try:
        for folder in (tables, figures):
            folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot write to {plan.workdir} ({error.strerror}); choose another `workdir`") from None
    with console.task("collecting results"):
        results = {run: read_completed(plan, run) for run in runs if is_complete(plan, run)}
        _check_sentences(plan, results)
        write_records(plan.workdir / RESULTS, result_records(plan, results))
        written = [
            ccc_table(grid, table, results, corpus) for table in grid.tables if table not in ("figure3", "folds")
        ]
        if "folds" in grid.tables:
            written.append(fold_table(grid, results, corpus))
        if "figure3" in grid.tables:
            extremes = _extremes(plan, results)
            written.append(extremes_table(grid, results, extremes))
            extreme_distributions(grid, extremes, figures / "figure3.png")
        if "figure2" in grid.tables:
            unlabeled_size_curves(grid, results, figures / "figure2.png")
        if any(pairs(grid, table) for table in grid.tables):
            written.append(significance_table(compare(grid, results, console)))
        for table in written:
            write_table(tables, table)
        write_records(tables / "epochs.csv", epoch_records(grid, results))
        for table in grid.tables:
            epoch_curves(grid, table, results, figures / f"epochs_{table}.png")
    return Collected(tuple(written), len(runs) - len(results))


def result_records(plan: Plan, results: Results) -> list[Record]:
    """A row a complete run and table that shows it; the work directory is relative to the plan's."""
    return [
        {"table": table, **_run_record(plan, results[run])}
        for table in plan.grid.tables
        for run in table_runs(plan.grid, table)
        if run in results
    ]


def epoch_records(grid: Grid, results: Results) -> list[Record]:
    """CCC and NMI over epochs, means over trials: a row a table, setting, attribute and epoch."""
    return [
        {"table": table, **dataclasses.asdict(setting), "attribute": attribute, **dataclasses.asdict(mean)}
        for table in grid.tables
        for setting in table_settings(grid, table)
        for attribute in table_attributes(grid, table)
        for mean in epoch_means(completed_trials(grid, results, setting, attribute))
    ]


def _run_record(plan: Plan, done: CompletedRun) -> Record:
    run, scores = done.run, done.scores
    best = next(metrics for metrics in done.metrics if metrics["epoch"] == done.best_epoch)
    return {
        "model": run.setting.model,
        "stages": run.setting.stages,
        "clusters": run.setting.clusters,
        "unlabeled_size": run.setting.unlabeled_size,
        "attribute": run.attribute,
        "seed": run.seed,
        **({} if run.fold is None else {"fold": run.fold}),
        "workdir": str(plan.folder(run).relative_to(plan.workdir)),
        "test_ccc": finite_or_none(scores.ccc),
        "test_pearson": finite_or_none(scores.pearson),
        "test_rmse": finite_or_none(scores.rmse),
        "test_sentences": scores.n,
        "test_not_finite": scores.not_finite,
        "validation_ccc": (best.get("validation_ccc") or {}).get(run.attribute),
        "best_epoch": done.best_epoch,
        "epochs": done.metrics[-1]["epoch"],
    }


def _check_sentences(plan: Plan, results: Results) -> None:
    """Runs are compared sentence by sentence: those of an attribute and fold must have predicted the same ones."""
    first: dict[tuple[str, int | None], CompletedRun] = {}
    for run, done in results.items():
        other = first.setdefault((run.attribute, run.fold), done)
        same_truth = np.array_equal(done.sentences.truth, other.sentences.truth, equal_nan=True)
        if done.sentences.ids != other.sentences.ids or not same_truth:
            raise InputError(
                f"{plan.folder(run) / TEST_PREDICTIONS} has other sentences or labels than the one in "
                f"{plan.folder(other.run)}; remove the folder of the one that is wrong and run it again"
            )


def _extremes(plan: Plan, results: Results) -> Mapping[Run, ClusterExtremes]:
    """The extreme clusters of the tested epoch, of every complete run of Figure 3."""
    runs = [run for run in table_runs(plan.grid, "figure3") if run in results]
    if not runs:
        return {}
    data = open_data(plan.data_dir)
    labels = data.labels("train")
    chunks = len(labels) * data.preparation.features.chunks_per_utterance
    found = {}
    for run in runs:
        folder = plan.folder(run)
        assignments = read_training_clusters(folder, results[run].best_epoch, read_run(folder), chunks)
        if assignments is None:
            raise InputError(f"{folder} has no cluster assignments; remove it and run it again")
        found[run] = cluster_extremes(assignments, labels.of([run.attribute])[:, 0])
    return found
