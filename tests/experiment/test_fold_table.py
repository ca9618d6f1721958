"""The table over folds, from work directories made by hand, against numbers computed here."""

from __future__ import annotations

import numpy as np
import pytest

from emocluster_jax.console import Console
from emocluster_jax.experiment.collect import collect
from emocluster_jax.experiment.grid import Grid, Plan, Run, Setting
from emocluster_jax.reporting.html.grid_files import read_grid
from made_runs import TRUTH, make_plan, make_run, predictions_of, rows_of

GRID = Grid(("folds",), ("arousal",), (10,), (0, 13), trials=2, fold_count=3)
REGRESSOR, EMOCLUSTER = Setting("cnn_regressor", None, 0), Setting("emocluster", 10, 13)
MISSING = Run(EMOCLUSTER, "arousal", 1, 3)


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    """Two systems, two trials, three folds; one run is missing."""
    folder = tmp_path_factory.mktemp("grid")
    plan = make_plan(GRID, folder / "work", folder / "data")
    for run in GRID.runs:
        if run != MISSING:
            make_run(plan, run)
    assert collect(plan, "drawn", Console(quiet=True)).missing == 1
    return plan


def ccc_by_hand(predictions: np.ndarray, truth: np.ndarray) -> float:
    x, y = predictions.astype(float), truth.astype(float)
    return 2 * np.cov(x, y, bias=True)[0, 1] / (x.var() + y.var() + (x.mean() - y.mean()) ** 2)


def fold_means(setting: Setting) -> list[float]:
    runs = [[Run(setting, "arousal", seed, fold) for seed in (0, 1)] for fold in (1, 2, 3)]
    return [np.mean([ccc_by_hand(predictions_of(run), TRUTH) for run in row if run != MISSING]) for row in runs]


def pooled(setting: Setting, seed: int) -> float:
    runs = [Run(setting, "arousal", seed, fold) for fold in (1, 2, 3)]
    return ccc_by_hand(np.concatenate([predictions_of(run) for run in runs]), np.tile(TRUTH, 3))


def test_results_name_the_fold(plan: Plan) -> None:
    rows = rows_of(plan.workdir / "results.csv")
    assert len(rows) == 11 and {row["table"] for row in rows} == {"folds"}
    for row in rows:
        setting = REGRESSOR if row["model"] == "cnn_regressor" else EMOCLUSTER
        run = Run(setting, "arousal", int(row["seed"]), int(row["fold"]))
        assert plan.workdir / row["workdir"] == plan.folder(run)
        # Sums in another order.
        assert float(row["test_ccc"]) == pytest.approx(ccc_by_hand(predictions_of(run), TRUTH), rel=1e-6)


def test_mean_and_deviation_are_over_folds(plan: Plan) -> None:
    records = {row["model"]: row for row in rows_of(plan.workdir / "tables/folds.csv")}
    for setting in (REGRESSOR, EMOCLUSTER):
        record, expected = records[setting.model], fold_means(setting)
        assert (record["folds"], record["trials"], record["attribute"]) == ("3", "2", "arousal")
        assert float(record["test_ccc_mean"]) == pytest.approx(np.mean(expected), rel=1e-6)
        assert float(record["test_ccc_deviation"]) == pytest.approx(np.std(expected, ddof=1), rel=1e-5)


def test_pooled_is_of_the_trials_that_have_all_folds(plan: Plan) -> None:
    records = {row["model"]: row for row in rows_of(plan.workdir / "tables/folds.csv")}
    both = [pooled(REGRESSOR, seed) for seed in (0, 1)]
    assert float(records["cnn_regressor"]["pooled_ccc_mean"]) == pytest.approx(np.mean(both), rel=1e-6)
    assert float(records["cnn_regressor"]["pooled_ccc_deviation"]) == pytest.approx(np.std(both, ddof=1), rel=1e-5)
    assert float(records["emocluster"]["pooled_ccc_mean"]) == pytest.approx(pooled(EMOCLUSTER, 0), rel=1e-6)
    assert records["emocluster"]["pooled_ccc_deviation"] == ""


def test_what_people_read(plan: Plan) -> None:
    text = (plan.workdir / "tables" / "folds.md").read_text()
    expected = fold_means(EMOCLUSTER)
    cell = f"{np.mean(expected):.3f} ± {np.std(expected, ddof=1):.3f}"
    assert f"| DeepEmoCluster, K = 10, 13 unlabelled | {cell} | {pooled(EMOCLUSTER, 0):.3f} (1) |" in " ".join(
        text.split()
    )
    assert "Test CCC over 3 folds by speaker of drawn" in text and "1 of 12 runs are missing." in text
    assert {path.name for path in (plan.workdir / "figures").iterdir()} == {"epochs_folds.png"}
    assert not (plan.workdir / "tables" / "significance.md").exists()
    runs = read_grid(plan.workdir).runs
    assert len(runs) == 11 and runs[0].title.endswith("seed 0, fold 1")
