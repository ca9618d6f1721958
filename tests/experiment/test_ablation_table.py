"""The table of a recipe without its parts, from work directories made by hand, against numbers computed here."""

from __future__ import annotations

import numpy as np
import pytest

from emocluster_jax.console import Console
from emocluster_jax.experiment.collect import collect
from emocluster_jax.experiment.grid import PARTS, Grid, Plan, Setting
from emocluster_jax.reporting.html.grid_files import read_grid
from made_runs import TRUTH, make_plan, make_run, predictions_of, rows_of

GRID = Grid(("ablation",), ("arousal",), (10,), (0, 13), trials=2)
WHOLE = Setting("emocluster", 10, 13)


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    """All runs but the last trial's last one."""
    folder = tmp_path_factory.mktemp("grid")
    plan = make_plan(GRID, folder / "work", folder / "data")
    for run in GRID.runs[:-1]:
        make_run(plan, run)
    assert collect(plan, "drawn", Console(quiet=True)).missing == 1
    return plan


def test_validation_stands_beside_test(plan: Plan) -> None:
    records = rows_of(plan.workdir / "tables" / "ablation.csv")
    assert [row["without"] for row in records] == ["", *PARTS, "all of it", ""]
    assert [row["trials"] for row in records] == ["2"] * (len(records) - 1) + ["1"]
    for row in records:
        # The second of three epochs is the best: 0.2 with seed 0, 1.2 with seed 1.
        expected = 0.7 if row["trials"] == "2" else 0.2
        assert float(row["validation_ccc_mean"]) == pytest.approx(expected, rel=1e-6)  # sums of rounded numbers


def test_test_scores_are_means_over_trials(plan: Plan) -> None:
    truth = TRUTH.astype(float)
    cccs = []
    for run in GRID.runs:
        if run.setting == WHOLE:
            x = predictions_of(run).astype(float)
            between = np.cov(x, truth, bias=True)[0, 1]
            cccs.append(2 * between / (x.var() + truth.var() + (x.mean() - truth.mean()) ** 2))
    record = rows_of(plan.workdir / "tables" / "ablation.csv")[0]
    assert float(record["test_ccc_mean"]) == pytest.approx(np.mean(cccs), rel=1e-6)  # sums in another order
    assert float(record["test_ccc_deviation"]) == pytest.approx(np.std(cccs, ddof=1), rel=1e-5)


def test_what_people_read(plan: Plan) -> None:
    text = " ".join((plan.workdir / "tables" / "ablation.md").read_text().split())
    assert "| DeepEmoCluster, K = 10, without mix-up, 13 unlabelled | 0.700 ± 0.707 |" in text
    assert "1 of 20 runs are missing." in text
    verdicts = rows_of(plan.workdir / "tables" / "significance.csv")
    assert len(verdicts) == len(PARTS) + 2  # the whole recipe against every other row
    assert {row["trials"] for row in verdicts} == {"1", "2"}
    assert {row["without"] for row in rows_of(plan.workdir / "results.csv")} == {"", *PARTS, "all of it"}
    runs = read_grid(plan.workdir).runs
    assert len(runs) == 20 - 1 and "without mix-up, attribute arousal" in runs[5].title
    assert all(run.files is not None for run in runs)
