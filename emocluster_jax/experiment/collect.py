"""Collects complete runs into the paper's tables (Markdown, LaTeX, CSV) and figures; missing runs are counted."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from emocluster_jax.console import Console
from emocluster_jax.errors import InputError
from emocluster_jax.evaluation.cluster_labels import ClusterExtremes, cluster_extremes
from emocluster_jax.evaluation.run_results import TEST_PREDICTIONS
from emocluster_jax.experiment.comparisons import compare, pairs
from emocluster_jax.experiment.completed import (
    CompletedRun,
    Results,
    completed_trials,
    epoch_means,
    is_complete,
    read_completed,
)
from emocluster_jax.experiment.fold_table import fold_table
from emocluster_jax.experiment.grid import Grid, Run, all_runs, table_attributes, table_runs, table_settings
from emocluster_jax.experiment.paper_figures import epoch_curves, extreme_distributions, unlabeled_size_curves
from emocluster_jax.experiment.plan import Plan
from emocluster_jax.experiment.tables import (
    Record,
    ResultTable,
    ccc_table,
    extremes_table,
    finite_or_none,
    significance_table,
)
from emocluster_jax.records.reader import open_data
from emocluster_jax.storage.atomic_files import replacing, replacing_csv
from emocluster_jax.training.workdir import read_run, read_training_clusters

RESULTS = "results.csv"
TABLES = "tables"
FIGURES = "figures"


@dataclass(frozen=True)
class Collected:
    """The requested tables of a grid, with the significance of their differences, and how many runs are missing."""

    tables: tuple[ResultTable, ...]
    missing: int


def collect(plan: Plan, corpus: str, console: Console) -> Collected:
    """Writes `results.csv`, `tables/` and `figures/` into the plan's work directory.

    Raises:
      InputError: a run's file is damaged or belongs to another run, or the folder cannot be written.
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
    """One row per complete run and table that shows it; the work directory is relative to the plan's."""
    return [
        {"table": table, **_run_record(plan, results[run])}
        for table in plan.grid.tables
        for run in table_runs(plan.grid, table)
        if run in results
    ]


def epoch_records(grid: Grid, results: Results) -> list[Record]:
    """CCC and NMI over epochs, means over trials: one row per table, setting, attribute and epoch."""
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
        **{name: getattr(run.setting, name) for name in ("model", "stages", "clusters", "unlabeled_size")},
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
    """Runs are compared by sentence: those of the same attribute and fold must have predicted the same sentences."""
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
    """The extreme clusters in the tested epoch of every complete run of Figure 3."""
    runs = [run for run in table_runs(plan.grid, "figure3") if run in results]
    if not runs:
        return {}
    data = open_data(plan.data_dir)
    labels = data.describe("train").labels
    chunks = len(labels) * data.preparation.features.chunks_per_utterance
    found = {}
    for run in runs:
        folder = plan.folder(run)
        assignments = read_training_clusters(folder, results[run].best_epoch, read_run(folder), chunks)
        if assignments is None:
            raise InputError(f"{folder} has no cluster assignments; remove it and run it again")
        found[run] = cluster_extremes(assignments, labels.of([run.attribute])[:, 0])
    return found


def write_table(folder: Path, table: ResultTable) -> None:
    """Writes `NAME.md`, `NAME.csv` and `NAME.tex`, a `tabular` that needs the package booktabs."""
    for suffix, text in (("md", markdown(table)), ("tex", latex(table))):
        with replacing(folder / f"{table.name}.{suffix}") as temporary:
            temporary.write_text(text, "utf-8")
    write_records(folder / f"{table.name}.csv", table.records)


def markdown(table: ResultTable) -> str:
    """The table with its title and notes, in Markdown with pipe tables."""
    from tabulate import tabulate

    body = tabulate(table.rows, table.header, "pipe", disable_numparse=True, colalign=_alignment(table))
    return "\n".join([f"### {table.title}", "", body, "", *table.notes, ""])


def latex(table: ResultTable) -> str:
    """The table, its title and notes as comments, with LaTeX's special characters escaped."""
    from tabulate import tabulate

    body = tabulate(table.rows, table.header, "latex_booktabs", disable_numparse=True, colalign=_alignment(table))
    return "\n".join([f"% {line}" for line in (table.title, *table.notes)] + [body, ""])


def write_records(path: Path, records: Sequence[Record]) -> None:
    """Writes records as CSV, with an empty cell for None; without any, the file is empty."""
    with replacing_csv(path) as rows:
        if records:
            rows.writerow(records[0])
            rows.writerows([record.get(name) for name in records[0]] for record in records)


def _alignment(table: ResultTable) -> list[str] | None:
    """Names to the left, numbers to the right."""
    if not table.rows:
        return None
    columns = zip(*table.rows, strict=True)
    return ["left" if any(cell[:1].isalpha() for cell in column) else "right" for column in columns]
