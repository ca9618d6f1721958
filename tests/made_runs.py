"""Work directories as training leaves them, without training."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from emocluster_jax.config import SystemName, TrainConfig
from emocluster_jax.evaluation.metrics import score_sentences
from emocluster_jax.evaluation.run_results import (
    TEST_PREDICTIONS,
    TEST_SCORES,
    RunScores,
    SentencePredictions,
    write_run_scores,
    write_test_predictions,
)
from emocluster_jax.experiment.grid import Grid, Plan, Run
from emocluster_jax.storage.checksums import file_sha256
from emocluster_jax.training.workdir import claim, read_run, write_assignments

IDS = tuple(f"test-{i}" for i in range(80))
TRUTH = np.random.default_rng(0).normal(4, 1, len(IDS)).astype(np.float32)


def make_plan(grid: Grid, workdir: Path, data_dir: Path) -> Plan:
    """A plan of runs of three epochs on data with the fingerprint "drawn"."""
    shared: dict[SystemName, TrainConfig] = {run.setting.model: TrainConfig(epochs=3) for run in grid.runs}
    return Plan(grid, shared, data_dir, ("drawn",), workdir)


def predictions_of(run: Run) -> np.ndarray:
    """Predictions as good as the system is meant to be: DeepEmoCluster's are the best, and better with a pool."""
    noise = 0.5 if run.setting.model == "emocluster" else 1.2
    if run.setting.unlabeled_size:
        noise -= 0.2
    rng = np.random.default_rng([run.seed, *([] if run.fold is None else [run.fold]), *run.setting.name.encode()])
    return (TRUTH + rng.normal(0, noise, len(TRUTH))).astype(np.float32)


def make_run(plan: Plan, run: Run, assignments: Sequence[int] | np.ndarray = ()) -> Path:
    """A complete run of three epochs, the second of which is the best; `assignments` are that one's."""
    folder = plan.folder(run)
    folder.mkdir(parents=True)
    claim(folder, plan.config(run), plan.data[0], resume=False)
    run_id = read_run(folder).id
    lines = [
        {
            "epoch": epoch,
            "validation_ccc": {run.attribute: 0.1 * epoch + run.seed},
            "nmi_previous": None if epoch == 1 else 0.2 * epoch + 0.1 * run.seed,
            "best_epoch": min(epoch, 2),
            "run": run_id,
        }
        for epoch in (1, 2, 3)
    ]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    write_assignments(folder, 2, run_id, {"stage2": np.asarray(assignments, np.int32)})
    truth, predictions = TRUTH[:, None], predictions_of(run)[:, None]
    write_test_predictions(folder / TEST_PREDICTIONS, SentencePredictions(IDS, (run.attribute,), truth, predictions))
    scores = score_sentences(truth, predictions, (run.attribute,))
    write_run_scores(folder / TEST_SCORES, run_id, RunScores(scores, file_sha256(folder / TEST_PREDICTIONS)))
    return folder


def rows_of(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV file that an experiment wrote."""
    with path.open(newline="") as file:
        return list(csv.DictReader(file))
