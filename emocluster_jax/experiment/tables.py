"""The tables of the paper from complete runs, beside the published scores."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from emocluster_jax.corpora.labels import VAD
from emocluster_jax.evaluation.cluster_labels import CHANCE_DRAWS, ClusterExtremes
from emocluster_jax.evaluation.significance import CONFIDENCE, LEVEL, RESAMPLES, SUBSETS
from emocluster_jax.experiment.comparisons import ComparedPair
from emocluster_jax.experiment.completed import Results, Summary, completed_trials, summarize
from emocluster_jax.experiment.grid import (
    PUBLISHED_SIZES,
    Grid,
    Run,
    Setting,
    TableName,
    table_attributes,
    table_runs,
    table_settings,
)
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

Record = Mapping[str, str | int | float | None]


@dataclass(frozen=True)
class ResultTable:
    """A table for people, with `notes` below it, and its unrounded numbers as `records` for programs."""

    name: str
    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...]
    records: tuple[Record, ...]


def system_name(setting: Setting) -> str:
    """The setting for readers, without the number of unlabelled recordings."""
    parts = [NETWORKS[setting.model].title]
    if setting.clusters is not None:
        parts.append(f"K = {setting.clusters}")
    if setting.stages == "unsupervised":
        parts.append("stage I alone")
    return ", ".join(parts)


def full_name(setting: Setting) -> str:
    """The setting for readers, with the number of unlabelled recordings."""
    return f"{system_name(setting)}, {setting.unlabeled_size:,} unlabelled"


def ccc_table(grid: Grid, table: TableName, results: Results, corpus: str) -> ResultTable:
    """Table 1, Table 2, or the numbers of Figure 2: mean test CCC over trials, one row per setting.

    Args:
      grid: the planned runs.
      table: one of these three.
      results: the complete runs.
      corpus: its name, for the notes.
    """
    largest = f"{grid.unlabeled_sizes[-1]:,}"
    titles: dict[TableName, str] = {
        "table1": "Table 1: test CCC, supervised",
        "table2": f"Table 2: test CCC by the number of clusters, {largest} unlabelled recordings",
        "figure2": "Figure 2: test CCC by the number of unlabelled recordings",
    }
    attributes = table_attributes(grid, table)
    rows, records = [], []
    for setting in table_settings(grid, table):
        row = [system_name(setting)]
        if table == "figure2":
            row.append(f"{setting.unlabeled_size:,}")
        for attribute in attributes:
            trials = completed_trials(grid, results, setting, attribute)
            summary = summarize([trial.scores.ccc for trial in trials])
            published = _published(grid, setting, attribute)
            row += [summary_text(summary, grid.trials), ABSENT if published is None else f"{published:.4f}"]
            records.append(
                {
                    **dataclasses.asdict(setting),
                    "attribute": attribute,
                    "trials": summary.trials,
                    "test_ccc_mean": finite_or_none(summary.mean),
                    "test_ccc_deviation": finite_or_none(summary.deviation),
                    "published_ccc": published,
                }
            )
        rows.append(tuple(row))
    size = ("unlabelled",) if table == "figure2" else ()
    header = ("system", *size, *(column for attribute in attributes for column in (attribute, "published")))
    pool = "" if table == "table1" else f", with {PUBLISHED_SIZES[-1]:,} unlabelled sentences where there are any"
    notes = (_trials_note(grid), f"Published figures are of {PUBLISHED_CORPUS}{pool}; the others of {corpus}.")
    return ResultTable(
        table,
        titles[table],
        header,
        tuple(rows),
        (*notes, *_not_finite_note(grid, table, results), *missing_note(grid, table, results)),
        tuple(records),
    )


def extremes_table(grid: Grid, results: Results, extremes: Mapping[Run, ClusterExtremes]) -> ResultTable:
    """Figure 3 in numbers: how far apart the extreme clusters are, one row per way to train."""
    (attribute,) = table_attributes(grid, "figure3")
    rows, records = [], []
    for setting in table_settings(grid, "figure3"):
        trials = [trial.run for trial in completed_trials(grid, results, setting, attribute)]
        found = {run: extremes[run] for run in trials if run in extremes}
        of_setting = [
            {
                **dataclasses.asdict(setting),
                "attribute": attribute,
                "seed": run.seed,
                "lowest_mean": float(extreme.lowest.mean()),
                "lowest_chunks": len(extreme.lowest),
                "highest_mean": float(extreme.highest.mean()),
                "highest_chunks": len(extreme.highest),
                "wasserstein": extreme.distance,
                "wasserstein_by_chance": extreme.distance_by_chance,
            }
            for run, extreme in found.items()
        ]
        cells = (
            summary_text(summarize([record[name] for record in of_setting]), grid.trials)
            for name in ("lowest_mean", "highest_mean", "wasserstein", "wasserstein_by_chance")
        )
        rows.append((system_name(setting), f"{setting.unlabeled_size:,}", *cells))
        records += of_setting
    header = ("clusters of", "unlabelled", "lowest mean", "highest mean", "Wasserstein distance", "by chance")
    notes = (
        _trials_note(grid),
        f"Of the training split's chunks, {attribute} in label units; each chunk has its sentence's label.",
        f"By chance: labels shuffled among the sentences, mean of {CHANCE_DRAWS} shuffles.",
    )
    title = f"Figure 3: the clusters with the lowest and the highest mean {attribute}"
    return ResultTable(
        "figure3", title, header, tuple(rows), (*notes, *missing_note(grid, "figure3", results)), tuple(records)
    )


def significance_table(tested: Sequence[ComparedPair]) -> ResultTable:
    """Whether the first system of each pair is better than the second."""
    rows, records = [], []
    for pair in tested:
        found = pair.comparison
        low, high = found.interval
        verdict = None if found.significant is None else "yes" if found.significant else "no"
        rows.append(
            (
                _TABLE_TITLES[pair.table],
                pair.attribute,
                full_name(pair.setting),
                full_name(pair.baseline),
                _signed(found.difference),
                ABSENT if math.isnan(low) else f"{_signed(low)} to {_signed(high)}",
                ABSENT if math.isnan(found.p_value) else f"{found.p_value:.3g}",
                verdict or ABSENT,
            )
        )
        records.append(
            {
                "table": pair.table,
                "attribute": pair.attribute,
                **dataclasses.asdict(pair.setting),
                **{f"baseline_{name}": value for name, value in dataclasses.asdict(pair.baseline).items()},
                "trials": pair.trials,
                "sentences": found.sentences,
                "not_finite": found.not_finite,
                "ccc_difference": finite_or_none(found.difference),
                "interval_low": finite_or_none(low),
                "interval_high": finite_or_none(high),
                "t": finite_or_none(found.t),
                "p_value": finite_or_none(found.p_value),
                "subsets": found.subsets,
                "significant": verdict,
            }
        )
    interval = f"{CONFIDENCE:.0%} interval"
    header = ("of", "attribute", "system", "against", "CCC difference", interval, "p", f"better at {LEVEL:g}")
    subsets = sorted({pair.comparison.subsets for pair in tested if not pair.comparison.not_finite}) or [SUBSETS]
    parts = f"{subsets[0]}" if len(subsets) == 1 else f"{subsets[0]} to {subsets[-1]}"
    notes = (
        f"p: paired one-tailed t-test over {parts} random subsets of the test split, each subset's CCC the mean over "
        "trials.",
        f"Interval: paired bootstrap over the test sentences, {RESAMPLES:,} resamples, of the mean difference over "
        "trials.",
        "Nothing is corrected for the number of comparisons.",
        *_not_compared_note(tested),
    )
    return ResultTable(
        "significance", "Is the system better than the one beside it?", header, tuple(rows), notes, tuple(records)
    )


def _not_compared_note(tested: Sequence[ComparedPair]) -> tuple[str, ...]:
    """Names the pairs that were not compared because predictions are not finite."""
    pairs = dict.fromkeys(
        f"{pair.attribute} of {full_name(pair.setting)} against {full_name(pair.baseline)} "
        f"({pair.comparison.not_finite} of {pair.comparison.sentences} sentences)"
        for pair in tested
        if pair.comparison.not_finite
    )
    return (f"No comparison where predictions are NaN or infinite: {'; '.join(pairs)}.",) if pairs else ()


def _not_finite_note(grid: Grid, table: TableName, results: Results) -> tuple[str, ...]:
    """Counts the runs of a table that have scores for only some of the test sentences."""
    done = [results[run] for run in table_runs(grid, table) if run in results]
    partial = sum(run.scores.not_finite > 0 for run in done)
    if not partial:
        return ()
    return (
        f"{partial} of {len(done)} runs predict NaN or infinite values for some test sentences, which their CCC leaves "
        "out.",
    )


def missing_note(grid: Grid, table: TableName, results: Results) -> tuple[str, ...]:
    """Counts the runs of a table that are not complete."""
    runs = table_runs(grid, table)
    missing = sum(run not in results for run in runs)
    return (f"{missing} of {len(runs)} runs are missing.",) if missing else ()


def summary_text(summary: Summary, expected: int) -> str:
    """E.g. "0.650 ± 0.012", with the number of trials in brackets where some are missing."""
    if not summary.trials or math.isnan(summary.mean):
        return ABSENT
    deviation = "" if math.isnan(summary.deviation) else f" ± {summary.deviation:.3f}"
    return f"{summary.mean:z.3f}{deviation}" + (f" ({summary.trials})" if summary.trials < expected else "")


_TABLE_TITLES: dict[TableName, str] = {
    "table1": "Table 1",
    "table2": "Table 2",
    "figure2": "Figure 2",
    "figure3": "Figure 3",
}


def _trials_note(grid: Grid) -> str:
    if grid.trials == 1:
        return "One trial."
    return f"Mean ± standard deviation over {grid.trials} trials, or over the number in brackets."


def _published(grid: Grid, setting: Setting, attribute: str) -> float | None:
    """The published CCC; a smaller corpus's largest unlabelled size is compared with the largest published one."""
    if 0 < setting.unlabeled_size == grid.unlabeled_sizes[-1]:
        setting = dataclasses.replace(setting, unlabeled_size=PUBLISHED_SIZES[-1])
    published = zip(VAD, _PUBLISHED_CCC.get(setting, ()), strict=False)
    return next((ccc for name, ccc in published if name == attribute), None)


def _signed(value: float) -> str:
    return ABSENT if math.isnan(value) else f"{value:+z.3f}"


def finite_or_none(value: float) -> float | None:
    """The number, or None as records have it for NaN and infinity."""
    return value if math.isfinite(value) else None
