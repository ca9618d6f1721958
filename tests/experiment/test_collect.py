"""Tables and figures from work directories made by hand, against numbers computed here."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy import stats

from emocluster_jax.console import Console
from emocluster_jax.evaluation.run_results import TEST_PREDICTIONS, TEST_SCORES
from emocluster_jax.evaluation.significance import compare_ccc, subset_ccc
from emocluster_jax.experiment.collect import collect
from emocluster_jax.experiment.comparisons import ComparedPair, significance_table
from emocluster_jax.experiment.grid import TABLES, Grid, Plan, Run, Setting
from emocluster_jax.storage.checksums import file_sha256
from emocluster_jax.storage.json_files import sealed
from made_runs import TRUTH, make_plan, make_run, predictions_of, rows_of
from small_records import write_records
from small_training import FEATURES, draw_recordings

GRID = Grid(TABLES, ("arousal",), (10, 20), (0, 13), trials=2)
SENTENCES = 12
OURS = Setting("emocluster", 10, 0)
MISSING = (Run(Setting("cnn_vae", None, 0), "arousal", 1), Run(Setting("ladder", None, 13), "arousal", 0))


def told(seed: int) -> np.ndarray:
    """Clusters that follow arousal: cluster 4 has the lower half of the sentences, cluster 2 the upper one."""
    labels = draw_recordings(SENTENCES, seed=6)[1][:, 0]
    return np.repeat(np.where(labels < np.median(labels), 4, 2), FEATURES.chunks_per_utterance)


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    """Of a grid of all tables, two runs of which are missing."""
    folder = tmp_path_factory.mktemp("grid")
    write_records(folder / "data", FEATURES, {"train": draw_recordings(SENTENCES, seed=6)})
    plan = make_plan(GRID, folder / "work", folder / "data")
    one_cluster = np.zeros(SENTENCES * FEATURES.chunks_per_utterance)
    for run in GRID.runs:
        if run not in MISSING:
            make_run(plan, run, one_cluster if run.setting.stages == "unsupervised" else told(run.seed))
    collected = collect(plan, "drawn", Console(quiet=True))
    assert collected.missing == len(MISSING)
    return plan


def ccc_by_hand(run: Run) -> float:
    x, y = predictions_of(run).astype(float), TRUTH.astype(float)
    return 2 * np.cov(x, y, bias=True)[0, 1] / (x.var() + y.var() + (x.mean() - y.mean()) ** 2)


def test_results_have_a_row_for_each_table_and_run(plan: Plan) -> None:
    rows = rows_of(plan.workdir / "results.csv")
    settings = ["model", "stages", "clusters", "unlabeled_size", "without"]
    assert list(rows[0])[:10] == ["table", *settings, "attribute", "seed", "workdir", "test_ccc"]
    # Five systems; two K; four systems of two sizes each; two kinds of training; less what is missing.
    expected = {"table1": 10 - 1, "table2": 4, "figure2": 16 - 2, "figure3": 4}
    assert {table: sum(row["table"] == table for row in rows) for table in TABLES} == expected
    for row in rows:
        clusters = int(row["clusters"]) if row["clusters"] else None
        setting = Setting(row["model"], clusters, int(row["unlabeled_size"]), row["stages"])  # type: ignore[arg-type]
        run = Run(setting, row["attribute"], int(row["seed"]))
        assert plan.workdir / row["workdir"] == plan.folder(run)
        assert float(row["test_ccc"]) == pytest.approx(ccc_by_hand(run), rel=1e-6)  # sums in another order
        assert row["best_epoch"] == "2" and float(row["validation_ccc"]) == pytest.approx(0.2 + run.seed)


def test_table_1_beside_the_published_figures(plan: Plan) -> None:
    values = [ccc_by_hand(Run(Setting("emocluster", 10, 0), "arousal", seed)) for seed in (0, 1)]
    text = (plan.workdir / "tables" / "table1.md").read_text()
    cell = f"{np.mean(values):.3f} ± {abs(values[0] - values[1]) / np.sqrt(2):.3f}"
    assert f"| DeepEmoCluster, K = 10 | {cell} | 0.6502 |" in " ".join(text.split()).replace(" |:", "|:")
    alone = ccc_by_hand(Run(Setting("cnn_vae", None, 0), "arousal", 0))
    assert f"{alone:.3f} (1)" in text and "1 of 10 runs are missing." in text
    record = next(row for row in rows_of(plan.workdir / "tables/table1.csv") if row["model"] == "emocluster")
    assert float(record["test_ccc_mean"]) == pytest.approx(np.mean(values), rel=1e-6)
    assert float(record["test_ccc_deviation"]) == pytest.approx(np.std(values, ddof=1), rel=1e-5)
    assert record["published_ccc"] == "0.6502" and record["trials"] == "2"


def test_the_largest_size_stands_beside_the_largest_published_one(plan: Plan) -> None:
    published = [(row["clusters"], row["published_ccc"]) for row in rows_of(plan.workdir / "tables/table2.csv")]
    assert published == [("10", "0.6611"), ("20", "0.6491")]
    of_figure = {
        (row["model"], row["unlabeled_size"]): row["published_ccc"]
        for row in rows_of(plan.workdir / "tables/figure2.csv")
    }
    assert of_figure["emocluster", "0"] == "0.6502" and of_figure["emocluster", "13"] == "0.6611"
    assert of_figure["cnn_ae", "0"] == "0.6338" and of_figure["cnn_ae", "13"] == ""


def test_significance_is_over_subsets_of_both_systems(plan: Plan) -> None:
    # One trial of CNN-VAE is missing, so the other systems' second trial is left out, too.
    ours, theirs = (
        predictions_of(Run(setting, "arousal", 0))[None]
        for setting in (Setting("emocluster", 10, 0), Setting("cnn_vae", None, 0))
    )
    expected = stats.ttest_rel(subset_ccc(TRUTH, ours), subset_ccc(TRUTH, theirs), alternative="greater")
    rows = [row for row in rows_of(plan.workdir / "tables/significance.csv") if row["table"] == "table1"]
    assert [row["baseline_model"] for row in rows] == ["cnn_regressor", "cnn_ae", "cnn_vae", "ladder"]
    row = rows[2]
    assert row["trials"] == "1" and float(row["p_value"]) == pytest.approx(expected.pvalue)
    assert row["significant"] == "yes" and float(row["interval_low"]) > 0


def test_latex_is_escaped(plan: Plan) -> None:
    text = (plan.workdir / "tables" / "significance.tex").read_text()
    assert r"95\% interval" in text and r"\begin{tabular}" in text and r"\toprule" in text
    assert all(line.startswith("% ") for line in text.split("\\begin{tabular}")[0].strip().splitlines())


def test_figure_3_is_measured(plan: Plan) -> None:
    rows = rows_of(plan.workdir / "tables/figure3.csv")
    labels = draw_recordings(SENTENCES, seed=6)[1][:, 0].astype(float)
    lower, upper = np.sort(labels)[: SENTENCES // 2], np.sort(labels)[SENTENCES // 2 :]
    for row in rows:
        if row["stages"] == "unsupervised":
            assert float(row["wasserstein"]) == 0
        else:
            # Of two samples of one size it is the mean distance of their sorted values.
            assert float(row["wasserstein"]) == pytest.approx(np.mean(upper - lower))
            assert float(row["lowest_mean"]) == pytest.approx(lower.mean())
            assert row["highest_chunks"] == str(SENTENCES // 2 * FEATURES.chunks_per_utterance)
    assert len(rows) == 4


def test_epochs_are_means_over_trials(plan: Plan) -> None:
    rows = [
        row
        for row in rows_of(plan.workdir / "tables/epochs.csv")
        if row["table"] == "table2" and row["clusters"] == "20"
    ]
    assert [row["epoch"] for row in rows] == ["1", "2", "3"] and rows[0]["nmi"] == ""
    assert float(rows[1]["validation_ccc"]) == pytest.approx(0.2 + 0.5)  # seeds 0 and 1 add 0 and 1
    assert float(rows[2]["nmi"]) == pytest.approx(0.6 + 0.05)


def test_figures_are_drawn(plan: Plan) -> None:
    names = {path.name for path in (plan.workdir / "figures").iterdir()}
    assert names == {"figure2.png", "figure3.png", *(f"epochs_{table}.png" for table in TABLES)}
    for name in names:
        with Image.open(plan.workdir / "figures" / name) as image:
            pixels = np.asarray(image.convert("RGB")).astype(int)
        # Vermilion: DeepEmoCluster, or (opaque to 60 %) the cluster with the highest mean.
        colour = [213, 94, 0] if name != "figure3.png" else [230, 158, 102]
        assert (np.abs(pixels - colour).max(axis=-1) < 12).sum() > 50, name


def test_a_prediction_that_is_not_finite_leaves_no_verdict_and_the_table_says_why(plan: Plan, tmp_path: Path) -> None:
    grid = Grid(("table1",), ("arousal",), (10,), (0,), trials=1)
    damaged = make_plan(grid, tmp_path, plan.data_dir)
    for run in grid.runs:
        folder = make_run(damaged, run)
        if run.setting.model == "cnn_ae":
            header, first, *others = (folder / TEST_PREDICTIONS).read_text().splitlines()
            first = first[: first.rindex(",") + 1]  # as training writes NaN
            (folder / TEST_PREDICTIONS).write_text("\n".join([header, first, *others, ""]))
            scores = json.loads((folder / TEST_SCORES).read_text())
            scores["scores"]["arousal"] |= {"n": len(TRUTH) - 1, "not_finite": 1}
            scores["predictions_sha256"] = file_sha256(folder / TEST_PREDICTIONS)
            (folder / TEST_SCORES).write_text(json.dumps(sealed(scores)))
    collect(damaged, "drawn", Console(quiet=True))
    rows = {row["baseline_model"]: row for row in rows_of(damaged.workdir / "tables/significance.csv")}
    assert {name: row["significant"] for name, row in rows.items()} == {
        "cnn_regressor": "yes",
        "cnn_ae": "",
        "cnn_vae": "yes",
        "ladder": "yes",
    }
    assert (rows["cnn_ae"]["p_value"], rows["cnn_ae"]["ccc_difference"], rows["cnn_ae"]["not_finite"]) == ("", "", "1")
    text = (tmp_path / "tables" / "significance.md").read_text()
    (line,) = (line for line in text.splitlines() if line.startswith("|") and "CNN-AE" in line)
    assert [cell.strip() for cell in line.split("|")[5:-1]] == ["-", "-", "-", "-"]
    assert (
        "No comparison where predictions are NaN or infinite: arousal of DeepEmoCluster, K = 10, 0 unlabelled against "
        f"CNN-AE, 0 unlabelled (1 of {len(TRUTH)} sentences)." in text
    )
    table = (tmp_path / "tables" / "table1.md").read_text()
    assert "1 of 5 runs predict NaN or infinite values for some test sentences, which their CCC leaves out." in table
    results = {row["model"]: row["test_not_finite"] for row in rows_of(damaged.workdir / "results.csv")}
    assert results["cnn_ae"] == "1" and results["emocluster"] == "0"


def test_too_few_recordings_are_a_verdict_of_their_own() -> None:
    truth, random = np.array([1.0, 4.0, 7.0]), np.random.default_rng(0)
    tested = [
        ComparedPair("table1", "arousal", OURS, other, 1, compare_ccc(truth, truth[None], random.normal(4, 1, (1, 3))))
        for other in (Setting("cnn_ae", None, 0), Setting("cnn_vae", None, 0))
    ]
    table = significance_table(tested)
    assert [row[-2:] for row in table.rows] == [("-", "too few recordings")] * 2
    assert [record["significant"] for record in table.records] == ["too few recordings"] * 2
    assert not any("1 random subset" in note for note in table.notes)
    assert "Too few recordings: the t-test needs at least 4 labelled test recordings, and there are 3." in table.notes


def test_a_grid_without_any_complete_run(plan: Plan, tmp_path: Path) -> None:
    nothing = dataclasses.replace(plan, workdir=tmp_path)
    collected = collect(nothing, "drawn", Console(quiet=True))
    assert collected.missing == len(GRID.runs)
    assert "10 of 10 runs are missing." in (tmp_path / "tables" / "table1.md").read_text()
