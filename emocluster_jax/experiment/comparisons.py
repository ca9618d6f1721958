"""Which systems a table compares, and whether one is better."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby

import numpy as np

from emocluster_jax.console import Console
from emocluster_jax.evaluation.significance import Comparison, compare_ccc
from emocluster_jax.experiment.completed import Results, completed_trials
from emocluster_jax.experiment.grid import Grid, Setting, TableName, table_attributes, table_settings


@dataclass(frozen=True)
class ComparedPair:
    """Whether a setting is better than a baseline in the same table.

    Attributes:
      table: both are rows of it.
      attribute: the CCC of this attribute is compared.
      setting: the system that may be better.
      baseline: the other one.
      trials: number of seeds that both have completed.
      comparison: the result.
    """

    table: TableName
    attribute: str
    setting: Setting
    baseline: Setting
    trials: int
    comparison: Comparison


def pairs(grid: Grid, table: TableName) -> list[tuple[Setting, Setting]]:
    """The pairs of system and baseline that a table compares, fixed before any result is known.

    Table 1 compares DeepEmoCluster with every other system; Table 2 more clusters with the first K; Figure 2
    DeepEmoCluster with every other system at the same number of unlabelled recordings, and every system with unlabelled
    recordings with itself without. Figure 3 compares no scores, and models of different folds share most of their
    training.
    """
    settings = table_settings(grid, table)
    if table in ("figure3", "folds"):
        return []
    if table == "table2":
        return [(setting, settings[0]) for setting in settings[1:]]
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
    asked: list[tuple[TableName, str, Setting, Setting]] = [
        (table, attribute, setting, baseline)
        for table in grid.tables
        for attribute in table_attributes(grid, table)
        for setting, baseline in pairs(grid, table)
    ]
    # Tables share some of them.
    answers: dict[tuple[str, Setting, Setting], tuple[int, Comparison] | None] = {}
    with console.task("comparing systems", len({question[1:] for question in asked})) as task:
        for _, attribute, setting, baseline in asked:
            if (attribute, setting, baseline) not in answers:
                answers[attribute, setting, baseline] = _answer(grid, results, attribute, setting, baseline)
                task.advance()
    return [
        ComparedPair(table, attribute, setting, baseline, *answer)
        for table, attribute, setting, baseline in asked
        if (answer := answers[attribute, setting, baseline]) is not None
    ]


def _answer(
    grid: Grid, results: Results, attribute: str, setting: Setting, baseline: Setting
) -> tuple[int, Comparison] | None:
    """The number of seeds that both have completed, and their comparison; None without any."""
    ours, theirs = (
        {done.run.seed: done for done in completed_trials(grid, results, each, attribute)}
        for each in (setting, baseline)
    )
    seeds = sorted(ours.keys() & theirs.keys())
    if not seeds:
        return None
    system, other = (
        np.stack([trials[seed].sentences.predictions[:, 0] for seed in seeds]) for trials in (ours, theirs)
    )
    return len(seeds), compare_ccc(ours[seeds[0]].sentences.truth[:, 0], system, other)
