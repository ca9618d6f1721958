"""The recommendation of a number of clusters: from made summaries, and by the command on records of noise."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from emocluster_jax import fit
from emocluster_jax.config import ModelConfig, TrainConfig
from emocluster_jax.console import Console
from emocluster_jax.errors import InputError
from emocluster_jax.experiment.completed import Summary
from emocluster_jax.experiment.grid import Grid, Plan, grid_for_data
from emocluster_jax.experiment.number_of_clusters import ClusterNumber, agreement, recommended
from emocluster_jax.records.preparation import read_preparation
from launch import experiment
from launch.command import run
from made_runs import rows_of
from small_records import write_records
from small_training import FEATURES, draw_recordings

NOTHING = Summary(0, math.nan, math.nan)


def number(clusters: int, ccc: float, stability: float, trials: int = 4) -> ClusterNumber:
    """With a standard error of 0.01."""
    return ClusterNumber(clusters, Summary(trials, ccc, 0.02), Summary(6, stability, 0.1), NOTHING)


def test_the_most_stable_within_one_standard_error_of_the_best() -> None:
    numbers = [number(5, 0.685, 0.9), number(10, 0.691, 0.5), number(20, 0.7, 0.3), number(30, 0.695, 0.6)]
    assert recommended(numbers) == 30
    assert recommended(numbers[:1]) == 5
    assert recommended([number(5, 0.7, 0.4), number(10, 0.699, 0.4)]) == 5


def test_nothing_is_recommended_of_single_trials() -> None:
    alone = ClusterNumber(10, Summary(1, 0.7, math.nan), NOTHING, NOTHING)
    assert recommended([number(5, 0.6, 0.9), alone]) is None and recommended([]) is None


def test_agreement_of_seeds_and_labels() -> None:
    rng = np.random.default_rng(0)
    clusters = rng.integers(4, size=(50, 3))
    classes = np.where(np.arange(50) < 40, rng.integers(3, size=50), -1)
    known = np.repeat(classes[:, None], 3, axis=1)
    stability, information = agreement([clusters, (clusters + 1) % 4, np.maximum(known, 0)], classes)
    assert (stability.trials, information.trials) == (3, 3)
    # Renumbered clusters are the same ones; drawn ones and the classes have nothing in common, but for chance.
    assert stability.mean == pytest.approx(1 / 3, abs=0.05)
    assert information.mean == pytest.approx(1 / 3, abs=0.05)


GRID = Grid(("clusters",), ("arousal",), (2, 4), (0,), trials=2)
CONFIG = TrainConfig(model=ModelConfig(width_multiplier=0.0625), batch_size=4, epochs=2)
GIVEN = ["--width-multiplier", "0.0625", "--batch-size", "4", "--epochs", "2"]


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    """All four runs, trained."""
    folder = tmp_path_factory.mktemp("grid")
    sizes = {"train": 12, "validation": 9, "test": 8}
    write_records(folder / "data", FEATURES, {split: draw_recordings(n, seed=n) for split, n in sizes.items()})
    fingerprints = read_preparation(folder / "data").fingerprints
    plan = Plan(GRID, {"emocluster": CONFIG}, folder / "data", fingerprints, folder / "work")
    for training in GRID.runs:
        fit(folder / "data", plan.folder(training), plan.config(training), console=Console(quiet=True))
    return plan


def test_the_command_recommends_and_says_how_to_train(
    plan: Plan, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = [
        "--preset",
        "clusters",
        "--clusters",
        "2",
        "4",
        "--trials",
        "2",
        "--attributes",
        "arousal",
        "--tables-only",
    ]
    where = ["--data-dir", str(plan.data_dir), "--workdir", str(plan.workdir)]
    monkeypatch.setattr("sys.argv", ["experiment", *asked, *where, *GIVEN])
    run(experiment.main)
    rows = rows_of(plan.workdir / "tables" / "clusters.csv")
    assert [(row["clusters"], row["attribute"], row["trials"]) for row in rows] == [(k, "arousal", "2") for k in "24"]
    numbers = [
        ClusterNumber(
            int(row["clusters"]),
            Summary(2, float(row["validation_ccc_mean"]), float(row["validation_ccc_deviation"])),
            Summary(1, float(row["stability_mean"]), math.nan),
            NOTHING,
        )
        for row in rows
    ]
    best = recommended(numbers)
    text = " ".join((plan.workdir / "tables" / "clusters.md").read_text().split())
    assert f"Recommended for arousal: K = {best}, the most stable" in text and "missing" not in text
    told = " ".join(capsys.readouterr().out.replace("\\\n", " ").split())
    assert f"Train arousal with the recommended {best} clusters by" in told
    assert f"--preset paper --attributes arousal --clusters {best} --unlabeled-size 0 {' '.join(GIVEN)}" in told
    assert (plan.workdir / "figures" / "clusters.png").stat().st_size > 10_000
    assert not (plan.workdir / "tables" / "significance.csv").exists()


def test_it_takes_a_validation_split(tmp_path: Path) -> None:
    write_records(tmp_path / "data", FEATURES, {split: draw_recordings(4, seed=1) for split in ("train", "test")})
    with pytest.raises(InputError, match="`preset=clusters` goes by the validation split"):
        grid_for_data(
            tmp_path / "data",
            read_preparation(tmp_path / "data"),
            tables=("clusters",),
            attributes=None,
            clusters=(2,),
            unlabeled_sizes=None,
            trials=2,
        )
