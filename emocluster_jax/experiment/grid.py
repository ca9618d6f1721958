"""Which runs the tables and figures of the paper consist of (paper, section 4), and those of the tables beyond it.

A setting is a row of a table; it is trained once per attribute and trial (and fold), and a trial is a seed. Runs that
several tables share are trained once.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Literal

import numpy as np

from emocluster_jax.config import SystemName, TrainConfig, TrainedStages
from emocluster_jax.errors import InputError
from emocluster_jax.records.preparation import Preparation
from emocluster_jax.settings import all_settings

TableName = Literal["table1", "table2", "figure2", "figure3", "temporal", "clusters", "folds", "ablation"]

TABLES: tuple[TableName, ...] = ("table1", "table2", "figure2", "figure3")
"""Those of the paper, on one split into training, validation and test."""
TABLE1_MODELS: tuple[SystemName, ...] = ("cnn_regressor", "cnn_ae", "cnn_vae", "emocluster", "ladder")
FIGURE2_MODELS: tuple[SystemName, ...] = ("emocluster", "cnn_ae", "cnn_vae", "ladder")
"""The systems that use unlabelled recordings."""
TEMPORAL_MODELS: tuple[SystemName, ...] = (
    "emocluster",
    "emocluster_gru",
    "emocluster_cnn",
    "emocluster_transformer",
    "emocluster_triplet",
)
"""DeepEmoCluster, and the systems that look across chunks."""
PUBLISHED_SIZES = (0, 15_000, 40_000)
PARTS: Mapping[str, tuple[str, ...]] = {
    "AdamW": ("algorithm", "adam_learning_rate", "weight_decay", "warmup_epochs", "schedule"),
    "averaged weights": ("average_decay",),
    "masks": ("time_masks", "frequency_masks"),
    "chunk offsets": ("chunk_offset",),
    "mix-up": ("mixup_alpha",),
    "cluster weight": ("cluster_weight", "cluster_warmup_epochs"),
    "unit length": ("l2_normalize",),
}
"""What the preset `modern` adds to `paper`, by the settings that switch it off at their defaults."""
ALL_PARTS = "all of it"


@dataclass(frozen=True)
class Setting:
    """What all trials and attributes of a table's row have in common; `clusters` is None for systems without.

    `without` names what is switched off of `PARTS`, or is `ALL_PARTS`; None leaves the grid's settings as they are.
    """

    model: SystemName
    clusters: int | None
    unlabeled_size: int
    stages: TrainedStages = "both"
    without: str | None = None

    @property
    def name(self) -> str:
        """E.g. "emocluster-k10-u15000"."""
        clusters = "" if self.clusters is None else f"-k{self.clusters}"
        stages = "" if self.stages == "both" else f"-{self.stages}"
        without = "" if self.without is None else f"-without-{self.without.lower().replace(' ', '-')}"
        return f"{self.model}{clusters}-u{self.unlabeled_size}{stages}{without}"


@dataclass(frozen=True)
class Run:
    """One training: of a setting, for one attribute, with a trial's seed; `fold` is None for data without folds."""

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
      tables: in the order of `TABLES`, and "temporal" and "clusters"; or "folds" or "ablation" alone.
      clusters: K of Table 2, "temporal" and "clusters"; the other tables use the first one.
      unlabeled_sizes: ascending, without repetition; Table 2, Figure 3, clusters, folds and ablation use the last one,
        "temporal" that and 0.
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

    def settings_of(self, table: TableName) -> tuple[Setting, ...]:
        """The rows of a table, whether or not it is asked for."""
        largest = self.unlabeled_sizes[-1]

        def setting(model: SystemName, unlabeled_size: int, clusters: int = self.clusters[0]) -> Setting:
            return Setting(model, clusters if model in TEMPORAL_MODELS else None, unlabeled_size)

        if table == "table1":
            return tuple(setting(model, 0) for model in TABLE1_MODELS)
        if table in ("table2", "clusters"):
            return tuple(setting("emocluster", largest, k) for k in self.clusters)
        if table == "figure2":
            return tuple(setting(model, size) for model in FIGURE2_MODELS for size in self.unlabeled_sizes)
        if table == "temporal":
            varied = product(TEMPORAL_MODELS, sorted({0, largest}), self.clusters)
            return tuple(setting(model, size, k) for model, size, k in varied)
        both_stages = setting("emocluster", largest)
        if table == "folds":
            return setting("cnn_regressor", 0), both_stages
        if table == "ablation":
            reduced = (dataclasses.replace(both_stages, without=part) for part in (*PARTS, ALL_PARTS))
            return both_stages, *reduced, setting("cnn_regressor", 0)
        return dataclasses.replace(both_stages, stages="unsupervised"), both_stages

    def attributes_of(self, table: TableName) -> tuple[str, ...]:
        """The attributes that a table has runs for: Figure 3 shows arousal, or else the first one."""
        if table != "figure3":
            return self.attributes
        return ("arousal",) if "arousal" in self.attributes else self.attributes[:1]

    def runs_of(self, table: TableName) -> tuple[Run, ...]:
        """The runs of a table, trial after trial and fold after fold."""
        varied = range(self.trials), self.folds, self.settings_of(table), self.attributes_of(table)
        return tuple(Run(setting, attribute, seed, fold) for seed, fold, setting, attribute in product(*varied))

    @property
    def runs(self) -> tuple[Run, ...]:
        """Every run once, sorted by trial, so that a grid that is stopped early has something of each table."""
        runs = dict.fromkeys(run for table in self.tables for run in self.runs_of(table))
        return tuple(sorted(runs, key=lambda run: run.seed))


@dataclass(frozen=True)
class Plan:
    """A grid with the settings that a system's runs share, its prepared records and the folder of runs and results.

    `data` are the fingerprints by which runs may know these records (`Preparation.fingerprints`).
    """

    grid: Grid
    shared: Mapping[SystemName, TrainConfig]
    data_dir: Path
    data: tuple[str, ...]
    workdir: Path

    def folder(self, run: Run) -> Path:
        """The work directory of a run."""
        return self.workdir / "runs" / run.name

    def config(self, run: Run) -> TrainConfig:
        return run_config(run, self.shared[run.setting.model])


def grid_for_data(
    data_dir: Path,
    preparation: Preparation,
    *,
    tables: tuple[TableName, ...],
    attributes: tuple[str, ...] | None,
    clusters: tuple[int, ...],
    unlabeled_sizes: tuple[int, ...] | None,
    trials: int,
) -> Grid:
    """The requested grid, without repetitions.

    `attributes` default to those that the training split has labels of, `unlabeled_sizes` to `sizes_within` the pool.

    Raises:
      InputError: the data do not have what is requested, or nothing is.
    """
    folds = preparation.folds
    if folds is None and "folds" in tables:
        raise InputError(f"`preset=folds` needs folds, which {data_dir} does not have; prepare it with `folds`")
    if folds is not None and tables != ("folds",):
        raise InputError(f"{data_dir} was prepared in folds; give `preset=folds` alone, or prepare it without `folds`")
    if "ablation" in tables and tables != ("ablation",):
        raise InputError("`preset=ablation` has other settings than the other tables; give it alone")
    if not (tables and clusters):
        raise InputError("`preset` and `clusters` need at least one value each")
    for split in ("train", "test") if folds is None else ():
        if not preparation.counts.get(split):
            raise InputError(f"{data_dir} has no {split} split, which an experiment needs; prepare one")
    if "clusters" in tables and not preparation.counts.get("validation"):
        raise InputError(f"`preset=clusters` goes by the validation split, which {data_dir} does not have; prepare one")
    means = zip(preparation.labels, preparation.label_statistics.mean, strict=True)
    labelled = tuple(name for name, mean in means if np.isfinite(mean))
    attributes = labelled if attributes is None else tuple(dict.fromkeys(attributes))
    if not attributes or not set(attributes) <= set(labelled):
        raise InputError(
            f"`attributes` is {', '.join(attributes) or 'none'}; the training split of {data_dir} has labels of "
            f"{', '.join(labelled) or 'none'}"
        )
    pool = preparation.counts.get("unlabeled", 0)
    sizes = sizes_within(pool) if unlabeled_sizes is None else tuple(sorted(set(unlabeled_sizes)))
    if not sizes or sizes[0] < 0 or sizes[-1] > pool:
        given = " ".join(map(str, unlabeled_sizes or ())) or "empty"
        raise InputError(f"`unlabeled_sizes` is {given}; {data_dir} has 0 to {pool} unlabelled recordings")
    fold_count = 0 if folds is None else folds.count
    return Grid(tables, attributes, tuple(dict.fromkeys(clusters)), sizes, trials, fold_count)


def sizes_within(pool: int) -> tuple[int, ...]:
    """The published unlabelled sizes if the pool is large enough for them, else the same shares of it."""
    largest = PUBLISHED_SIZES[-1]
    if pool >= largest:
        return PUBLISHED_SIZES
    return tuple(sorted({round(size * pool / largest) for size in PUBLISHED_SIZES}))


def shard(runs: tuple[Run, ...], number: int, count: int) -> tuple[Run, ...]:
    """The share of machine `number`, from 1, of `count`. Neighbours, which take equally long, go to different ones."""
    return runs[number - 1 :: count]


def run_config(run: Run, base: TrainConfig) -> TrainConfig:
    """All settings of a run: those of `base` with what the grid varies replaced."""
    setting = run.setting
    clusters = base.model.clusters if setting.clusters is None else setting.clusters
    return dataclasses.replace(
        _without(base, setting.without),
        model=dataclasses.replace(base.model, system=setting.model, attributes=(run.attribute,), clusters=clusters),
        stages=setting.stages,
        unlabeled_size=setting.unlabeled_size,
        fold=run.fold,
        # Stage I alone trains no regressor, so there is no better epoch to wait for.
        patience=None if setting.stages == "unsupervised" else base.patience,
        seed=run.seed,
    )


def _without(config: TrainConfig, part: str | None) -> TrainConfig:
    if part is None:
        return config
    names = {name for settings in PARTS.values() for name in settings} if part == ALL_PARTS else {*PARTS[part]}
    return config.replace(**{s.name: s.default for s in all_settings(TrainConfig) if s.name in names})
