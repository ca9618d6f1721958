"""The page of an experiment, whose files are written here as `launch.experiment` writes them."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from emocluster_jax.config import ModelConfig, SystemName, TrainConfig
from emocluster_jax.evaluation.metrics import Scores
from emocluster_jax.evaluation.run_results import RunScores, write_run_scores
from emocluster_jax.reporting.plots import training_curves
from emocluster_jax.training.metrics_log import MetricsLog
from emocluster_jax.training.workdir import claim, read_run
from launch import report
from running import call

HOSTILE_TABLE = """### Table 1: <script>window.hacked = 1</script>

| system | arousal |
|:-------|--------:|
| CNN "<img src=x onerror='window.hacked = 1'>" | **.6177** ± .01 |

A note with a [link](javascript:window.hacked=1) and a ![picture](http://example.org/x.png).
"""


@pytest.fixture(scope="module")
def experiment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two systems with two trials each in two tables; one run has gone since."""
    workdir = tmp_path_factory.mktemp("experiment")
    rows = []
    systems: tuple[tuple[SystemName, str], ...] = (("cnn_regressor", ""), ("emocluster", "10"))
    for model, clusters in systems:
        for seed in range(2):
            run = workdir / "runs" / f"{model}-{seed}"
            run.mkdir(parents=True)
            network = ModelConfig(system=model, clusters=10)
            claim(run, TrainConfig(model=network, seed=seed, unlabeled_size=0), "data", resume=False)
            run_id = read_run(run).id
            with MetricsLog(run, run_id=run_id) as log:
                for e in (1, 2):
                    ccc = {"arousal": 0.1 * e + 0.01 * seed}
                    log.write({"epoch": e, "best_epoch": 2, "validation_ccc": ccc, "ccc_loss": 0.5})
            scores = RunScores({"arousal": Scores(0.4 + 0.1 * seed, 0.4, 1.0, 3)}, "of a file that is not there")
            write_run_scores(run / "test.json", run_id, scores)
            rows += [
                {
                    "table": table,
                    "model": model,
                    "stages": "both",
                    "clusters": clusters,
                    "unlabeled_size": "0",
                    "attribute": "arousal",
                    "seed": seed,
                    "workdir": str(run.relative_to(workdir)),
                    "test_ccc": 0.4 + 0.1 * seed,
                }
                for table in ("table1", "figure2")
            ]
    (workdir / "runs" / "emocluster-0" / "report.html").write_text("its own page")
    shutil.rmtree(workdir / "runs" / "emocluster-1")
    with (workdir / "results.csv").open("w", newline="") as file:
        table = csv.DictWriter(file, list(rows[0]))
        table.writeheader()
        table.writerows(rows)
    (workdir / "figures").mkdir()
    (workdir / "tables").mkdir()
    (workdir / "tables" / "table1.md").write_text(HOSTILE_TABLE)
    for name in ("significance", "figure2"):
        (workdir / "tables" / f"{name}.md").write_text(f"### The {name}\n")
    training_curves([], workdir / "figures" / "epochs_table1.png")
    return workdir


def figure_data(page: str, name: str) -> list[dict[str, Any]]:
    """The traces of a figure of the page."""
    return json.loads(page.partition(f'id="{name}-data">')[2].partition("</script>")[0])["data"]


def test_tables_scores_curves_and_runs(experiment: Path) -> None:
    call(report, "--workdir", str(experiment), "--quiet")
    text = (experiment / "report.html").read_text("utf-8")
    assert "An experiment of 4 runs." in text
    assert "<summary>CNN-regressor, stages both, unlabeled size 0, attribute arousal, seed 0</summary>" in text
    assert "<strong>.6177</strong> ± .01" in text
    # What a table says is text, apart from its own formatting.
    assert "&lt;script&gt;window.hacked" in text and "[link](javascript:" in text and "<img src=x" not in text
    # In the order of the results, and what has no rows there comes last.
    assert text.index("Table 1:") < text.index("The figure2") < text.index("The significance")
    assert "<h3>Epochs, table 1</h3>" in text
    assert '<a href="runs/emocluster-0/report.html">' in text
    assert "runs/emocluster-1 holds no run" in text
    traces = figure_data(text, "grid-scores-0")
    # A run that counts for two tables is one run: two dots and their mean, for each of two settings.
    assert [(trace["name"], len(trace["x"])) for trace in traces] == [
        ("CNN-regressor", 2),
        ("CNN-regressor", 1),
        ("DeepEmoCluster, K = 10", 2),
        ("DeepEmoCluster, K = 10", 1),
    ]
    assert traces[1]["x"] == [pytest.approx(0.45)]
    # Three runs are left, of systems whose clusters say nothing of the epoch before.
    assert "grid-nmi-0" not in text
    curves = figure_data(text, "grid-ccc-0")
    assert [trace["y"] for trace in curves] == [[0.1, 0.2], [pytest.approx(0.11), pytest.approx(0.21)], [0.1, 0.2]]


def test_an_experiment_that_has_just_begun(tmp_path: Path) -> None:
    (tmp_path / "results.csv").touch()
    call(report, "--workdir", str(tmp_path), "--quiet")
    assert "An experiment of 0 runs." in (tmp_path / "report.html").read_text("utf-8")


def test_it_loads_without_an_error(experiment: Path, browser: Callable[[Path], Any]) -> None:
    call(report, "--workdir", str(experiment), "--quiet")
    opened = browser(experiment / "report.html")
    assert opened.execute_script("return document.querySelectorAll('[data-figure] .main-svg').length") >= 2
    assert opened.get_log("browser") == [] and opened.execute_script("return window.hacked") is None
