"""Which systems a table compares, whether one is better, and the table of these verdicts."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from itertools import groupby
from typing import NamedTuple

import numpy as np

from emocluster_jax.console import Console
from emocluster_jax.evaluation.significance import (
    CONFIDENCE,
    FEWEST,
    LEVEL,
    RESAMPLES,
    SUBSETS,
    Comparison,
    compare_ccc,
)
from emocluster_jax.experiment.completed import Results, completed_trials
from emocluster_jax.experiment.grid import Grid, Setting, TableName
from emocluster_jax.experiment.tables import ABSENT, ResultTable, finite_or_none, full_name

_TITLES = {
    "table1": "Table 1",
    "table2": "Table 2",
    "figure2": "Figure 2",
    "temporal": "across chunks",
    "ablation": "ablation",
}
_TOO_FEW = "too few recordings"


class ComparedPair(NamedTuple):
    """Whether a setting's CCC is better than a baseline's in the same table, over the seeds that both completed."""

    table: str
    attribute: str
    setting: Setting
    baseline: Setting
    trials: int
    comparison: Comparison


def pairs(grid: Grid, table: TableName) -> list[tuple[Setting, Setting]]:
    """The pairs of system and baseline that a table compares, fixed before any result is known.

    Table 1 compares DeepEmoCluster with every other system; Table 2 more clusters with the first K; Figure 2
    DeepEmoCluster with every other system at the same number of unlabelled recordings, and every system with unlabelled
    recordings with itself without. Systems that look across chunks are compared with DeepEmoCluster of as many clusters
    and unlabelled recordings. The ablation compares the whole recipe with each other row. Figure 3 has no scores;
    the number of clusters is chosen without the test split; models of different folds share most of their training.
    """
    settings = grid.settings_of(table)
    if table in ("figure3", "clusters", "folds"):
        return []
    if table == "ablation":
        return [(settings[0], other) for other in settings[1:]]
    if table == "table2":
        return [(setting, settings[0]) for setting in settings[1:]]
    if table == "temporal":
        plain = {(s.clusters, s.unlabeled_size): s for s in settings if s.model == "emocluster"}
        return [(s, plain[s.clusters, s.unlabeled_size]) for s in settings if s.model != "emocluster"]
    by_size = sorted(settings, key=lambda setting: setting.unlabeled_size)
    found = []
    for _, group in groupby(by_size, key=lambda setting: setting.unlabeled_size):
        rows = list(group)
        ours = next(setting for setting in rows if setting.model == "emocluster")
        found += [(ours, other) for other in rows if other != ours]
    without = {setting.model: setting for setting in settings if setting.unlabeled_size == 0}
    found += [(s, without[s.model]) for s in settings if s.unlabeled_size > 0 and s.model in without]
    return found


def compare(grid: Grid, results: Results, console: Console) -> list[ComparedPair]:
    """The comparisons of all tables for which both settings have complete trials with the same seeds."""
    asked = [
        (table, (attribute, *pair))
        for table in grid.tables
        for attribute in grid.attributes_of(table)
        for pair in pairs(grid, table)
    ]
    questions = dict.fromkeys(question for _, question in asked)  # tables share some of them
    answers = {}
    with console.task("comparing systems", len(questions)) as task:
        for question in questions:
            answers[question] = _answer(results, *question)
            task.advance()
    return [
        ComparedPair(table, *question, *answer)
        for table, question in asked
        if (answer := answers[question]) is not None
    ]


def _answer(results: Results, attribute: str, setting: Setting, baseline: Setting) -> tuple[int, Comparison] | None:
    """The number of seeds that both have completed, and their comparison; None without any."""
    ours, theirs = (
        {done.run.seed: done for done in completed_trials(results, each, attribute)} for each in (setting, baseline)
    )
    seeds = sorted(ours.keys() & theirs.keys())
    if not seeds:
        return None
    system, other = (
        np.stack([trials[seed].sentences.predictions[:, 0] for seed in seeds]) for trials in (ours, theirs)
    )
    return len(seeds), compare_ccc(ours[seeds[0]].sentences.truth[:, 0], system, other)


def significance_table(tested: Sequence[ComparedPair]) -> ResultTable:
    """Whether the first system of each pair is better than the second."""
    rows, records = [], []
    for table, attribute, setting, baseline, trials, found in tested:
        low, high = found.interval
        verdict = {None: _TOO_FEW if found.too_few else None, True: "yes", False: "no"}[found.significant]
        rows.append(
            (
                _TITLES[table],
                attribute,
                full_name(setting),
                full_name(baseline),
                _signed(found.difference),
                ABSENT if math.isnan(low) else f"{_signed(low)} to {_signed(high)}",
                ABSENT if math.isnan(found.p_value) else f"{found.p_value:.3g}",
                verdict or ABSENT,
            )
        )
        records.append(
            {
                "table": table,
                "attribute": attribute,
                **dataclasses.asdict(setting),
                **{f"baseline_{name}": value for name, value in dataclasses.asdict(baseline).items()},
                "trials": trials,
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
    subsets = sorted({pair.comparison.subsets for pair in tested if pair.comparison.significant is not None})
    parts = f"{subsets[0]} to {subsets[-1]}" if len(subsets) > 1 else f"{subsets[0]}" if subsets else f"up to {SUBSETS}"
    notes = [
        f"p: paired one-tailed t-test over {parts} random subsets of the test split, each subset's CCC the mean over "
        "trials.",
        f"Interval: paired bootstrap over the test sentences, {RESAMPLES:,} resamples, of the mean difference over "
        "trials.",
        "Nothing is corrected for the number of comparisons.",
    ]
    if few := sorted({pair.comparison.sentences for pair in tested if pair.comparison.too_few}):
        there = f"there {'is' if few == [1] else 'are'} {' or '.join(map(str, few))}"
        notes.append(f"Too few recordings: the t-test needs at least {FEWEST} labelled test recordings, and {there}.")
    not_compared = dict.fromkeys(
        f"{pair.attribute} of {full_name(pair.setting)} against {full_name(pair.baseline)} "
        f"({pair.comparison.not_finite} of {pair.comparison.sentences} sentences)"
        for pair in tested
        if pair.comparison.not_finite
    )
    if not_compared:
        notes.append(f"No comparison where predictions are NaN or infinite: {'; '.join(not_compared)}.")
    return ResultTable("significance", "Is the system better than the one beside it?", header, rows, notes, records)


def _signed(value: float) -> str:
    return ABSENT if math.isnan(value) else f"{value:+z.3f}"
