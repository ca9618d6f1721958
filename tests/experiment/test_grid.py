"""Which runs there are, which of them tables share, and how machines divide them."""

from __future__ import annotations

import dataclasses
from collections import Counter

import pytest

from emocluster_jax.config import TrainConfig, presets
from emocluster_jax.corpora.labels import VAD
from emocluster_jax.experiment.grid import ALL_PARTS, PARTS, TABLES, Grid, Run, Setting, run_config, shard, sizes_within
from emocluster_jax.settings import values_of
from launch import train
from launch.options import arguments_for

PAPER = Grid(TABLES, VAD, (10, 20, 30), (0, 15_000, 40_000), trials=5)


def test_what_tables_share_is_run_once() -> None:
    # Of a trial and attribute: five systems in Table 1; of Figure 2's four, those at size 0 are among them, which
    # leaves two sizes; K = 20 and 30, while K = 10 at the largest size is in Figure 2. Figure 3 adds stage I alone, on
    # arousal.
    settings = 5 + 4 * 2 + 2
    runs = PAPER.runs
    assert len(runs) == 5 * (3 * settings + 1) == len(set(runs))
    assert set(runs) == {run for table in TABLES for run in PAPER.runs_of(table)}
    assert len({run.name for run in runs}) == len(runs)
    shared = Run(Setting("emocluster", 10, 40_000), "arousal", 0)
    assert all(shared in PAPER.runs_of(table) for table in ("table2", "figure2", "figure3"))


def test_the_published_settings_are_in_the_grid() -> None:
    table1 = {run.setting for run in PAPER.runs_of("table1")}
    assert {(s.model, s.clusters, s.unlabeled_size) for s in table1} == {
        ("cnn_regressor", None, 0),
        ("cnn_ae", None, 0),
        ("cnn_vae", None, 0),
        ("emocluster", 10, 0),
        ("ladder", None, 0),
    }
    assert [run.setting.clusters for run in PAPER.runs_of("table2") if run.seed == 0][::3] == [10, 20, 30]
    assert {(run.setting.stages, run.attribute) for run in PAPER.runs_of("figure3")} == {
        ("unsupervised", "arousal"),
        ("both", "arousal"),
    }


def test_first_trials_come_first() -> None:
    seeds = [run.seed for run in PAPER.runs]
    assert seeds == sorted(seeds)


@pytest.mark.parametrize("count", [1, 2, 3, 7, 500])
def test_shards_are_a_fair_partition(count: int) -> None:
    runs = PAPER.runs
    shards = [shard(runs, number, count) for number in range(1, count + 1)]
    assert Counter(run for part in shards for run in part) == Counter(runs)
    assert max(map(len, shards)) - min(map(len, shards)) <= 1


def test_without_a_pool_all_sizes_are_one() -> None:
    supervised = dataclasses.replace(PAPER, unlabeled_sizes=sizes_within(0))
    assert all(run.setting.unlabeled_size == 0 for run in supervised.runs)
    assert len({run.setting for run in supervised.runs}) == 5 + 2 + 1


def test_sizes_are_the_published_ones_or_their_shares() -> None:
    assert sizes_within(500_000) == sizes_within(40_000) == (0, 15_000, 40_000)
    assert sizes_within(224) == (0, 84, 224)
    assert sizes_within(1) == (0, 1) and sizes_within(0) == (0,)


@pytest.mark.parametrize("table", [*TABLES, "temporal", "folds", "ablation"])
def test_a_runs_arguments_give_its_settings(table) -> None:
    given = ["--data-dir", "data", "--workdir", "work", "--epochs", "7", "--patience", "3"]
    base = train.parse(given).config
    assert base == dataclasses.replace(TrainConfig(), epochs=7, patience=3)
    grid = dataclasses.replace(PAPER, trials=2, fold_count=4 if table == "folds" else 0)
    last = {run.setting: run for run in grid.runs_of(table)}
    for run in last.values():
        options = dataclasses.replace(train.parse(given), config=run_config(run, base))
        assert train.parse(arguments_for(options, train.Options(config=TrainConfig()))) == options


def test_every_fold_is_tested_by_two_systems() -> None:
    folds = dataclasses.replace(PAPER, tables=("folds",), trials=2, fold_count=4)
    runs = folds.runs
    assert len(runs) == 2 * 4 * 2 * 3 == len({run.name for run in runs})
    assert {run.setting for run in runs} == {Setting("cnn_regressor", None, 0), Setting("emocluster", 10, 40_000)}
    assert Run(Setting("cnn_regressor", None, 0), "valence", 1, 4).name == "cnn_regressor-u0-valence-fold4-seed1"
    assert {run.fold for run in PAPER.runs} == {None}


def test_the_ablation_takes_one_part_after_the_other_from_the_recipe() -> None:
    modern = presets["modern"]
    grid = dataclasses.replace(PAPER, tables=("ablation",), attributes=("arousal",), trials=1)
    whole, *reduced, regressor = grid.runs
    assert len({run.name for run in grid.runs}) == len(grid.runs) == len(PARTS) + 3
    assert run_config(whole, modern) == modern.replace(unlabeled_size=40_000)
    assert run_config(regressor, modern.for_system("cnn_regressor")) == modern.for_system("cnn_regressor").replace(
        unlabeled_size=0
    )
    paper = TrainConfig()
    for run, part in zip(reduced, [*PARTS, ALL_PARTS], strict=True):
        config = run_config(run, modern)
        off = {name for names in PARTS.values() for name in names} if part == ALL_PARTS else {*PARTS[part]}
        recipe = _by_name(run_config(whole, modern))
        differing = {name for name, value in _by_name(config).items() if value != recipe[name]}
        assert differing and differing <= off
        assert {name: value for name, value in _by_name(config).items() if name in off} == {
            name: value for name, value in _by_name(paper).items() if name in off
        }
    # What the preset changes is all in one of the parts, but for what suits small corpora.
    changed = {name for name, value in _by_name(modern).items() if value != _by_name(paper)[name]}
    assert changed - {"epochs", "batch_size"} <= {name for names in PARTS.values() for name in names}


def _by_name(config: TrainConfig) -> dict[str, object]:
    return {setting.name: value for setting, value in values_of(config)}
