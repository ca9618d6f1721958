"""The tables of the paper and of the systems that look across chunks, from complete runs, beside the published scores;
the table over folds and the ablation."""

from __future__ import annotations

import dataclasses
import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from emocluster_jax.corpora.labels import VAD
from emocluster_jax.evaluation.cluster_labels import CHANCE_DRAWS, ClusterExtremes
from emocluster_jax.evaluation.metrics import ccc
from emocluster_jax.experiment.completed import CompletedRun, Results, Summary, completed_trials, summarize
from emocluster_jax.experiment.grid import PUBLISHED_SIZES, Grid, Run, Setting, TableName
from emocluster_jax.models.registry import NETWORKS

ABSENT = "-"
PUBLISHED_CORPUS = "MSP-Podcast v1.6 (Lin, Sridhar & Busso, ICASSP 2021)"
_PUBLISHED_CCC = {
    Setting("cnn_regressor", None, 0): (0.6177, 0.4928, 0.1696),
    Setting("cnn_ae", None, 0): (0.6338, 0.5111, 0.1354),
    Setting("cnn_vae", None, 0): (0.5586, 0.4800, 0.1826),
    Setting("emocluster", 10, 0): (0.6502, 0.5426, 0.1510),
    Setting("emocluster", 10, PUBLISHED_SIZES[-1]): (0.6611, 0.5400, 0.1572),
    Setting("emocluster", 20, PUBLISHED_SIZES[-1]): (0.6491, 0.5459, 0.1756),
    Setting("emocluster", 30, PUBLISHED_SIZES[-1]): (0.6416, 0.5490, 0.1752),
}
"""Test CCC of the labels in `VAD`: tables 1 and 2 of the paper."""
TEMPORAL_CORPUS = "MSP-Podcast v1.8 (Lin & Busso, Speech Communication 157, 2024)"
_TEMPORAL_CCC = {
    Setting("emocluster_transformer", 10, PUBLISHED_SIZES[-1]): (None, None, 0.1801),
    Setting("emocluster_transformer", 30, PUBLISHED_SIZES[-1]): (0.5741, 0.4839, None),
}
"""The best of each label there, with unlabelled recordings."""

Record = Mapping[str, Any]
"""Text, numbers and None by column."""


class ResultTable(NamedTuple):
    """A table for people, with `notes` below it, and its unrounded numbers as `records` for programs."""

    name: str
    title: str
    header: Sequence[str]
    rows: Sequence[tuple[str, ...]]
    notes: Sequence[str]
    records: Sequence[Record]


def system_name(setting: Setting) -> str:
    """The setting for readers, without the number of unlabelled recordings."""
    clusters = "" if setting.clusters is None else f", K = {setting.clusters}"
    stages = ", stage I alone" if setting.stages == "unsupervised" else ""
    without = "" if setting.without is None else f", without {setting.without}"
    return f"{NETWORKS[setting.model].title}{clusters}{stages}{without}"


def full_name(setting: Setting) -> str:
    """The setting for readers, with the number of unlabelled recordings."""
    return f"{system_name(setting)}, {setting.unlabeled_size:,} unlabelled"


def ccc_table(grid: Grid, table: TableName, results: Results, corpus: str) -> ResultTable:
    """Table 1, Table 2, the numbers of Figure 2, or the systems that look across chunks: mean test CCC over trials, one
    row per setting."""
    largest = f"{grid.unlabeled_sizes[-1]:,}"
    titles: dict[TableName, str] = {
        "table1": "Table 1: test CCC, supervised",
        "table2": f"Table 2: test CCC by the number of clusters, {largest} unlabelled recordings",
        "figure2": "Figure 2: test CCC by the number of unlabelled recordings",
        "temporal": "Across chunks: test CCC with temporal networks and triplets",
    }
    sized = table in ("figure2", "temporal")

    def name(setting: Setting) -> list[str]:
        return [system_name(setting), *([f"{setting.unlabeled_size:,}"] if sized else [])]

    def cells(setting: Setting, attribute: str, trials: Sequence[CompletedRun]) -> tuple[list[str], Record]:
        summary = summarize([trial.scores.ccc for trial in trials])
        published = _published(grid, table, setting, attribute)
        record = {"trials": summary.trials, **summary_record("test_ccc", summary), "published_ccc": published}
        return [summary_text(summary, grid.trials), ABSENT if published is None else f"{published:.4f}"], record

    rows, records = _by_setting(grid, table, results, name, cells)
    attributes = grid.attributes_of(table)
    header = ["system", *(["unlabelled"] if sized else []), *(part for of in attributes for part in (of, "published"))]
    source = PUBLISHED_CORPUS
    if table == "temporal":
        source = f"{TEMPORAL_CORPUS}, with unlabelled sentences"
    elif table != "table1":
        source += f", with {PUBLISHED_SIZES[-1]:,} unlabelled sentences where there are any"
    notes = [trials_note(grid), f"Published figures are of {source}; the others of {corpus}."]
    done = [results[run] for run in grid.runs_of(table) if run in results]
    if partial := sum(run.scores.not_finite > 0 for run in done):
        notes.append(
            f"{partial} of {len(done)} runs predict NaN or infinite values for some test sentences, which their CCC "
            "leaves out."
        )
    return ResultTable(table, titles[table], header, rows, [*notes, *missing_note(grid, table, results)], records)


def fold_table(grid: Grid, results: Results, corpus: str) -> ResultTable:
    """How well each system predicts speakers that it never heard.

    Mean and deviation over folds of the test CCC, and the CCC of all folds' test sentences together.
    """

    def cells(_: Setting, attribute: str, trials: Sequence[CompletedRun]) -> tuple[list[str], Record]:
        by_fold, by_seed = defaultdict(list), defaultdict(list)
        for trial in trials:
            by_seed[trial.run.seed].append(trial.sentences)
            if math.isfinite(trial.scores.ccc):
                by_fold[trial.run.fold].append(trial.scores.ccc)
        over_folds = summarize([float(np.mean(cccs)) for cccs in by_fold.values()])
        pooled = summarize(
            [
                ccc(
                    np.concatenate([sentences.predictions[:, 0] for sentences in of_folds]),
                    np.concatenate([sentences.truth[:, 0] for sentences in of_folds]),
                )
                for of_folds in by_seed.values()
                if len(of_folds) == grid.fold_count
            ]
        )
        record = {"folds": over_folds.trials, "trials": len(by_seed), **summary_record("test_ccc", over_folds)}
        shown = [summary_text(over_folds, grid.fold_count), summary_text(pooled, grid.trials)]
        return shown, {**record, **summary_record("pooled_ccc", pooled)}

    rows, records = _by_setting(grid, "folds", results, lambda setting: [full_name(setting)], cells)
    each, over = "", ""
    if grid.trials > 1:
        each = f", each the mean over {grid.trials} trials"
        over = f"; mean ± standard deviation over {grid.trials} trials"
    notes = [
        f"Mean ± standard deviation over {grid.fold_count} folds{each}, or over the number in brackets.",
        "Pooled: one CCC over the test sentences of all folds, each predicted by the run that tests on its fold"
        f"{over}.",
    ]
    if undefined := sum(math.isnan(done.scores.ccc) for done in results.values()):
        notes.append(f"{undefined} runs are left out of the mean: their fold has no labels, or no finite prediction.")
    header = ["system", *(part for name in grid.attributes_of("folds") for part in (name, f"{name}, pooled"))]
    title = f"Test CCC over {grid.fold_count} folds by speaker of {corpus}"
    return ResultTable("folds", title, header, rows, [*notes, *missing_note(grid, "folds", results)], records)


def ablation_table(grid: Grid, results: Results, corpus: str) -> ResultTable:
    """What each part of a recipe is worth: validation CCC, which decides on parts, and test CCC without each."""

    def cells(_: Setting, attribute: str, trials: Sequence[CompletedRun]) -> tuple[list[str], Record]:
        of_validation = summarize([ccc for trial in trials if (ccc := trial.validation_ccc) is not None])
        test = summarize([trial.scores.ccc for trial in trials])
        record = {
            "trials": test.trials,
            **summary_record("validation_ccc", of_validation),
            **summary_record("test_ccc", test),
        }
        return [summary_text(summary, grid.trials) for summary in (of_validation, test)], record

    rows, records = _by_setting(grid, "ablation", results, lambda setting: [full_name(setting)], cells)
    notes = [
        trials_note(grid),
        "Without a part, its settings have their defaults. Validation CCC is of the epoch that it selected.",
        *missing_note(grid, "ablation", results),
    ]
    header = ["system", *(part for of in grid.attributes_of("ablation") for part in (f"{of}, validation", of))]
    title = f"Ablation: CCC without each part of the recipe, of {corpus}"
    return ResultTable("ablation", title, header, rows, notes, records)


def _by_setting(
    grid: Grid,
    table: TableName,
    results: Results,
    name: Callable[[Setting], list[str]],
    cells: Callable[[Setting, str, Sequence[CompletedRun]], tuple[list[str], Record]],
) -> tuple[list[tuple[str, ...]], list[Record]]:
    """A row per setting, with `cells` of each attribute's complete trials beside its name, and a record of each."""
    rows, records = [], []
    for setting in grid.settings_of(table):
        row = name(setting)
        for attribute in grid.attributes_of(table):
            shown, record = cells(setting, attribute, completed_trials(results, setting, attribute))
            row += shown
            records.append({**dataclasses.asdict(setting), "attribute": attribute, **record})
        rows.append(tuple(row))
    return rows, records


def extremes_table(grid: Grid, results: Results, extremes: Mapping[Run, ClusterExtremes]) -> ResultTable:
    """Figure 3 in numbers: how far apart the extreme clusters are, one row per way to train."""
    (attribute,) = grid.attributes_of("figure3")
    rows, records = [], []
    for setting in grid.settings_of("figure3"):
        trials = completed_trials(results, setting, attribute)
        of_setting = [
            {
                **dataclasses.asdict(setting),
                "attribute": attribute,
                "seed": seed,
                "lowest_mean": float(extreme.lowest.mean()),
                "lowest_chunks": len(extreme.lowest),
                "highest_mean": float(extreme.highest.mean()),
                "highest_chunks": len(extreme.highest),
                "wasserstein": extreme.distance,
                "wasserstein_by_chance": extreme.distance_by_chance,
            }
            for seed, extreme in ((trial.run.seed, extremes[trial.run]) for trial in trials)
        ]
        cells = (
            summary_text(summarize([record[name] for record in of_setting]), grid.trials)
            for name in ("lowest_mean", "highest_mean", "wasserstein", "wasserstein_by_chance")
        )
        rows.append((system_name(setting), f"{setting.unlabeled_size:,}", *cells))
        records += of_setting
    header = ("clusters of", "unlabelled", "lowest mean", "highest mean", "Wasserstein distance", "by chance")
    notes = [
        trials_note(grid),
        f"Of the training split's chunks, {attribute} in label units; each chunk has its sentence's label.",
        f"By chance: labels shuffled among the sentences, mean of {CHANCE_DRAWS} shuffles.",
        *missing_note(grid, "figure3", results),
    ]
    title = f"Figure 3: the clusters with the lowest and the highest mean {attribute}"
    return ResultTable("figure3", title, header, rows, notes, records)


def missing_note(grid: Grid, table: TableName, results: Results) -> list[str]:
    """A line on the runs of a table that are not complete, if there are any."""
    runs = grid.runs_of(table)
    missing = sum(run not in results for run in runs)
    return [f"{missing} of {len(runs)} runs are missing."] if missing else []


def trials_note(grid: Grid) -> str:
    """What the numbers of a table are means of."""
    if grid.trials == 1:
        return "One trial."
    return f"Mean ± standard deviation over {grid.trials} trials, or over the number in brackets."


def summary_text(summary: Summary, expected: int) -> str:
    """E.g. "0.650 ± 0.012", with the number of trials in brackets where some are missing."""
    if math.isnan(summary.mean):
        return ABSENT
    deviation = "" if math.isnan(summary.deviation) else f" ± {summary.deviation:.3f}"
    return f"{summary.mean:z.3f}{deviation}" + (f" ({summary.trials})" if summary.trials < expected else "")


def summary_record(name: str, summary: Summary) -> Record:
    """Mean and deviation of what is called so; None where there are too few values."""
    return {f"{name}_mean": finite_or_none(summary.mean), f"{name}_deviation": finite_or_none(summary.deviation)}


def _published(grid: Grid, table: TableName, setting: Setting, attribute: str) -> float | None:
    """The CCC that was published for a table; a smaller corpus's largest unlabelled size is compared with the largest
    published one."""
    if 0 < setting.unlabeled_size == grid.unlabeled_sizes[-1]:
        setting = dataclasses.replace(setting, unlabeled_size=PUBLISHED_SIZES[-1])
    scores = _TEMPORAL_CCC if table == "temporal" else _PUBLISHED_CCC
    published = zip(VAD, scores.get(setting, ()), strict=False)
    return next((score for name, score in published if name == attribute), None)


def finite_or_none(value: float) -> float | None:
    """The number, or None as records have it for NaN and infinity."""
    return value if math.isfinite(value) else None
