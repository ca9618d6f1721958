"""The table of the systems that look across chunks, from work directories made by hand."""

from __future__ import annotations

import pytest

from emocluster_jax.console import Console
from emocluster_jax.corpora.labels import VAD
from emocluster_jax.experiment.collect import collect
from emocluster_jax.experiment.grid import Grid, Plan, Run, Setting
from emocluster_jax.reporting.html.grid_files import read_grid
from made_runs import make_plan, make_run, rows_of

GRID = Grid(("temporal",), VAD, (10, 20, 30), (0, 5, 13), trials=1)
RELATIVES = ("emocluster_gru", "emocluster_cnn", "emocluster_transformer", "emocluster_triplet")
MISSING = Run(Setting("emocluster_cnn", 20, 0), "valence", 0)


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    """All runs but one."""
    folder = tmp_path_factory.mktemp("grid")
    plan = make_plan(GRID, folder / "work", folder / "data")
    for run in GRID.runs:
        if run != MISSING:
            make_run(plan, run)
    assert collect(plan, "drawn", Console(quiet=True)).missing == 1
    return plan


def test_every_system_has_every_number_of_clusters_with_the_pool_and_without() -> None:
    settings = GRID.settings_of("temporal")
    expected = {(model, k, size) for model in ("emocluster", *RELATIVES) for k in (10, 20, 30) for size in (0, 13)}
    assert len(settings) == 30
    assert {(s.model, s.clusters, s.unlabeled_size) for s in settings} == expected
    alone = Grid(("temporal",), VAD, (10,), (0,), trials=1)
    assert {s.unlabeled_size for s in alone.settings_of("temporal")} == {0} and len(alone.runs) == 5 * 3


def test_published_figures_stand_beside_the_settings_that_they_are_of(plan: Plan) -> None:
    records = rows_of(plan.workdir / "tables" / "temporal.csv")
    published = {
        (row["model"], row["clusters"], row["unlabeled_size"], row["attribute"]): float(row["published_ccc"])
        for row in records
        if row["published_ccc"]
    }
    assert published == {
        ("emocluster_transformer", "30", "13", "arousal"): 0.5741,
        ("emocluster_transformer", "30", "13", "dominance"): 0.4839,
        ("emocluster_transformer", "10", "13", "valence"): 0.1801,
    }
    text = " ".join((plan.workdir / "tables" / "temporal.md").read_text().split())
    assert "Published figures are of MSP-Podcast v1.8 (Lin & Busso, Speech Communication 157, 2024), with" in text
    assert "DeepEmoCluster Temp-Trans, K = 30 | 13 |" in text and "1 of 90 runs are missing." in text


def test_each_is_compared_with_deepemocluster_of_the_same_setting(plan: Plan) -> None:
    rows = rows_of(plan.workdir / "tables" / "significance.csv")
    assert len(rows) == 4 * 3 * 2 * 3 - 1
    for row in rows:
        assert row["model"] in RELATIVES and row["baseline_model"] == "emocluster"
        assert (row["clusters"], row["unlabeled_size"]) == (row["baseline_clusters"], row["baseline_unlabeled_size"])


def test_curves_and_the_report_have_all_of_them(plan: Plan) -> None:
    assert (plan.workdir / "figures" / "epochs_temporal.png").stat().st_size > 10_000
    runs = read_grid(plan.workdir).runs
    assert len(runs) == 89 and all(run.files is not None for run in runs)
