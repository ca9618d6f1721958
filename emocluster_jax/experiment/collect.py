"""Collects complete runs into the paper's tables (Markdown, LaTeX, CSV) and figures; missing runs are counted."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from emocluster_jax.console import Console
from emocluster_jax.errors import InputError
from emocluster_jax.evaluation.cluster_labels import ClusterExtremes, cluster_extremes
from emocluster_jax.evaluation.run_results import TEST_PREDICTIONS
from emocluster_jax.experiment.comparisons import compare, pairs, significance_table
from emocluster_jax.experiment.completed import CompletedRun, Results, completed_trials, epoch_means, read_completed
from emocluster_jax.experiment.grid import Grid, Plan, Run
from emocluster_jax.experiment.number_of_clusters import cluster_number_table, cluster_numbers, recommended
from emocluster_jax.experiment.paper_figures import (
    cluster_number_curves,
    epoch_curves,
    extreme_distributions,
    unlabeled_size_curves,
)
from emocluster_jax.experiment.tables import (
    Record,
    ResultTable,
    ablation_table,
    ccc_table,
    extremes_table,
    finite_or_none,
    fold_table,
)
from emocluster_jax.records.reader import open_data
from emocluster_jax.storage.atomic_files import replacing, replacing_csv
from emocluster_jax.training.workdir import read_run, read_training_clusters

RESULTS = "results.csv"
TABLES = "tables"
FIGURES = "figures"


class Collected(NamedTuple):
    """The requested tables of a grid, with the significance of their differences, and how many runs are missing.

    `clusters` is the number of clusters that is recommended for an attribute, where one is.
    """

    tables: Sequence[ResultTable]
    missing: int
    clusters: Mapping[str, int]


def collect(plan: Plan, corpus: str, console: Console) -> Collected:
    """Writes `results.csv`, `tables/` and `figures/` into the plan's work directory.

    Raises:
      InputError: a run's file is damaged or belongs to another run, or the folder cannot be written.
    """
    grid, runs = plan.grid, plan.grid.runs
    tables, figures = plan.workdir / TABLES, plan.workdir / FIGURES
    try:
        for folder in (tables, figures):
            folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot write to {plan.workdir} ({error.strerror}); choose another `workdir`") from None
    with console.task("collecting results"):
        results = {run: done for run in runs if (done := read_completed(plan, run)) is not None}
        _check_sentences(plan, results)
        # One row per complete run and table that shows it.
        rows = [(table, results[run]) for table in grid.tables for run in grid.runs_of(table) if run in results]
        _write_records(plan.workdir / RESULTS, [{"table": table, **_run_record(plan, done)} for table, done in rows])
        written, choices = [], {}
        for table in grid.tables:
            if table == "folds":
                written.append(fold_table(grid, results, corpus))
            elif table == "ablation":
                written.append(ablation_table(grid, results, corpus))
            elif table == "clusters":
                numbers = cluster_numbers(plan, results, console)
                choices = {name: k for name, found in numbers.items() if (k := recommended(found)) is not None}
                written.append(cluster_number_table(grid, results, numbers, corpus))
                cluster_number_curves(numbers, figures / "clusters.png")
            elif table == "figure3":
                extremes = _extremes(plan, results)
                written.append(extremes_table(grid, results, extremes))
                extreme_distributions(grid, extremes, figures / "figure3.png")
            else:
                written.append(ccc_table(grid, table, results, corpus))
            epoch_curves(grid, table, results, figures / f"epochs_{table}.png")
        if "figure2" in grid.tables:
            unlabeled_size_curves(grid, results, figures / "figure2.png")
        if any(pairs(grid, table) for table in grid.tables):
            written.append(significance_table(compare(grid, results, console)))
        for table in written:
            _write_table(tables, table)
        _write_records(tables / "epochs.csv", _epoch_records(grid, results))
    return Collected(written, len(runs) - len(results), choices)


def _epoch_records(grid: Grid, results: Results) -> list[Record]:
    """CCC and NMI over epochs, means over trials: one row per table, setting, attribute and epoch."""
    return [
        {"table": table, **dataclasses.asdict(setting), "attribute": attribute, **means}
        for table in grid.tables
        for setting in grid.settings_of(table)
        for attribute in grid.attributes_of(table)
        for means in epoch_means(completed_trials(results, setting, attribute))
    ]


def _run_record(plan: Plan, done: CompletedRun) -> Record:
    """The work directory is relative to the plan's."""
    run, scores = done.run, done.scores
    return {
        **{name: getattr(run.setting, name) for name in ("model", "stages", "clusters", "unlabeled_size", "without")},
        "attribute": run.attribute,
        "seed": run.seed,
        **({} if run.fold is None else {"fold": run.fold}),
        "workdir": str(plan.folder(run).relative_to(plan.workdir)),
        "test_ccc": finite_or_none(scores.ccc),
        "test_pearson": finite_or_none(scores.pearson),
        "test_rmse": finite_or_none(scores.rmse),
        "test_sentences": scores.n,
        "test_not_finite": scores.not_finite,
        "validation_ccc": done.validation_ccc,
        "best_epoch": done.best["epoch"],
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
    runs = [run for run in plan.grid.runs_of("figure3") if run in results]
    if not runs:
        return {}
    data = open_data(plan.data_dir)
    labels = data.describe("train").labels
    chunks = len(labels) * data.preparation.features.chunks_per_utterance
    found = {}
    for run in runs:
        folder = plan.folder(run)
        assignments = read_training_clusters(folder, results[run].best["epoch"], read_run(folder), chunks)
        if assignments is None:
            raise InputError(f"{folder} has no cluster assignments; remove it and run it again")
        found[run] = cluster_extremes(assignments, labels.of([run.attribute])[:, 0])
    return found


def _write_table(folder: Path, table: ResultTable) -> None:
    """Writes `NAME.md`, `NAME.csv` and `NAME.tex`, a `tabular` that needs the package booktabs."""
    from tabulate import tabulate

    columns = zip(*table.rows, strict=True)
    # Names to the left, numbers to the right.
    alignment = ["left" if any(cell[:1].isalpha() for cell in column) else "right" for column in columns] or None

    def body(style: str) -> str:
        return tabulate(table.rows, table.header, style, disable_numparse=True, colalign=alignment)

    texts = {
        "md": [f"### {table.title}", "", body("pipe"), "", *table.notes],
        "tex": [*(f"% {line}" for line in (table.title, *table.notes)), body("latex_booktabs")],
    }
    for suffix, lines in texts.items():
        with replacing(folder / f"{table.name}.{suffix}") as temporary:
            temporary.write_text("\n".join([*lines, ""]), "utf-8")
    _write_records(folder / f"{table.name}.csv", table.records)


def _write_records(path: Path, records: Sequence[Record]) -> None:
    """Writes records as CSV, with an empty cell for None; without any, the file is empty."""
    with replacing_csv(path) as rows:
        if records:
            rows.writerow(records[0])
            rows.writerows([record.get(name) for name in records[0]] for record in records)
