"""Which runs the tables and figures of the paper consist of (paper, section 4), and the table over folds.

A setting is a row of a table; it is trained once per attribute and trial (and fold), and a trial is a seed. Runs that
several tables share are trained once.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from itertools import product
from typing import Literal

from emocluster_jax.config import SystemName, TrainConfig, TrainedStages

TableName = Literal["table1", "table2", "figure2", "figure3", "folds"]

TABLES: tuple[TableName, ...] = ("table1", "table2", "figure2", "figure3")
"""Those of the paper, on one split into training, validation and test."""
TABLE1_MODELS: tuple[SystemName, ...] = ("cnn_regressor", "cnn_ae", "cnn_vae", "emocluster", "ladder")
FIGURE2_MODELS: tuple[SystemName, ...] = ("emocluster", "cnn_ae", "cnn_vae", "ladder")
"""The systems that use unlabelled recordings."""
PUBLISHED_SIZES = (0, 15_000, 40_000)


@dataclass(frozen=True)
class Setting:
    """What all trials and attributes of a table's row have in common.

    Attributes:
      model: the system.
      clusters: K; None for systems without clusters.
      unlabeled_size: recordings of the unlabelled pool.
      stages: `TrainConfig.stages`.
    """

    model: SystemName
    clusters: int | None
    unlabeled_size: int
    stages: TrainedStages = "both"

    @property
    def name(self) -> str:
        """E.g. "emocluster-k10-u15000"."""
        parts: list[str] = [self.model]
        if self.clusters is not None:
            parts.append(f"k{self.clusters}")
        parts.append(f"u{self.unlabeled_size}")
        if self.stages != "both":
            parts.append(self.stages)
        return "-".join(parts)


@dataclass(frozen=True)
class Run:
    """One training.

    Attributes:
      setting: shared with the other trials and attributes.
      attribute: the only one that the model predicts.
      seed: of the trial.
      fold: that it tests on; None for data without folds.
    """

    setting: Setting
    attribute: str
    seed: int
    fold: int | None = None

    @property
    def name(self) -> str:
        """The name of its work directory, which no other run has."""
        fold = "" if self.fold is None else f"-fold{self.fold}"
        return f"{self.setting.name}-{self.attribute}{fold}-seed{self.seed}"


@dataclass(frozen=True)
class Grid:
    """The tables asked for, and what their runs vary.

    Attributes:
      tables: in the order of `TABLES`; or the one over folds, alone.
      attributes: each has runs of its own.
      clusters: K of Table 2; the other tables use the first one.
      unlabeled_sizes: ascending, without repetition; Table 2, Figure 3 and the table over folds use the last one.
      trials: seeds 0 to `trials` - 1.
      fold_count: how many folds the data have; every trial tests on each of them. 0 for data without folds.
    """

    tables: tuple[TableName, ...]
    attributes: tuple[str, ...]
    clusters: tuple[int, ...]
    unlabeled_sizes: tuple[int, ...]
    trials: int
    fold_count: int = 0

    @property
    def folds(self) -> tuple[int | None, ...]:
        """The folds that every trial tests on, or None for the data's own split."""
        return tuple(range(1, self.fold_count + 1)) or (None,)


def sizes_within(pool: int) -> tuple[int, ...]:
    """The published unlabelled sizes if the pool is large enough for them, else the same shares of it."""
    largest = PUBLISHED_SIZES[-1]
    if pool >= largest:
        return PUBLISHED_SIZES
    return tuple(sorted({round(size * pool / largest) for size in PUBLISHED_SIZES}))


def table_settings(grid: Grid, table: TableName) -> tuple[Setting, ...]:
    """The rows of a table, whether or not it is asked for."""
    clusters, largest = grid.clusters[0], grid.unlabeled_sizes[-1]
    if table == "table1":
        return tuple(_setting(model, clusters, 0) for model in TABLE1_MODELS)
    if table == "table2":
        return tuple(Setting("emocluster", k, largest) for k in grid.clusters)
    if table == "figure2":
        return tuple(_setting(model, clusters, size) for model in FIGURE2_MODELS for size in grid.unlabeled_sizes)
    if table == "folds":
        return Setting("cnn_regressor", None, 0), Setting("emocluster", clusters, largest)
    return Setting("emocluster", clusters, largest, "unsupervised"), Setting("emocluster", clusters, largest)


def table_attributes(grid: Grid, table: TableName) -> tuple[str, ...]:
    """The attributes that a table has runs for: Figure 3 shows arousal, or else the first one."""
    if table != "figure3":
        return grid.attributes
    return ("arousal",) if "arousal" in grid.attributes else grid.attributes[:1]


def table_runs(grid: Grid, table: TableName) -> tuple[Run, ...]:
    """The runs of a table, trial after trial and fold after fold."""
    settings, attributes = table_settings(grid, table), table_attributes(grid, table)
    return tuple(
        Run(setting, attribute, seed, fold)
        for seed, fold, setting, attribute in product(range(grid.trials), grid.folds, settings, attributes)
    )


def all_runs(grid: Grid) -> tuple[Run, ...]:
    """Every run once, sorted by trial, so that a grid that is stopped early has something of each table."""
    runs = [run for table in grid.tables for run in table_runs(grid, table)]
    return tuple(sorted(dict.fromkeys(runs), key=lambda run: run.seed))


def shard(runs: tuple[Run, ...], number: int, count: int) -> tuple[Run, ...]:
    """The share of machine `number`, from 1, of `count`. Neighbours, which take equally long, go to different ones."""
    return runs[number - 1 :: count]


def run_config(run: Run, base: TrainConfig) -> TrainConfig:
    """All settings of a run: those of `base` with what the grid varies replaced."""
    setting = run.setting
    model = dataclasses.replace(
        base.model,
        system=setting.model,
        attributes=(run.attribute,),
        clusters=base.model.clusters if setting.clusters is None else setting.clusters,
    )
    return dataclasses.replace(
        base,
        model=model,
        stages=setting.stages,
        unlabeled_size=setting.unlabeled_size,
        fold=run.fold,
        # Stage I alone trains no regressor, so there is no better epoch to wait for.
        patience=None if setting.stages == "unsupervised" else base.patience,
        seed=run.seed,
    )


def _setting(model: SystemName, clusters: int, unlabeled_size: int) -> Setting:
    return Setting(model, clusters if model == "emocluster" else None, unlabeled_size)
