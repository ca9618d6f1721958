"""Small runs of the commands, and all that they leave behind, to be compared bit by bit."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

from emocluster_jax.inference.model_directory import read_model
from emocluster_jax.training.metrics_log import read_metrics

# Learning rates so high that every step has something to say of all that went before.
SMALL = (
    *("--attributes", "arousal", "valence", "--clusters", 5, "--width-multiplier", 0.125, "--epochs", 2),
    *("--batch-size", 4, "--sgd-learning-rate", 0.1, "--adam-learning-rate", 0.05, "--cluster-head-learning-rate", 1),
    *("--seed", 9),  # with which the second epoch is the better one, and its model replaces the first one's
)


def prepare(recordings: Path, folder: Path) -> list[object]:
    source = ["prepare", "--corpus", "manifest", "--source", recordings]
    return [*source, "--data-dir", folder / "data", "--workers", 1]


def train(records: Path, folder: Path) -> list[object]:
    return ["train", "--data-dir", records, "--workdir", folder / "work", "--resume", *SMALL]


def predict(model: Path, recordings: Path, output: Path) -> list[object]:
    return ["predict", "--checkpoint", model, "--input", recordings, "--output", output, "--workers", 1]


@dataclass(frozen=True)
class Undisturbed:
    """A run that nothing befell: where it lies, what it left behind, and how many events it had."""

    folder: Path
    left: dict[str, Any]
    events: int


def prepared(folder: Path) -> dict[str, bytes]:
    """All bytes; nothing else may lie beside them."""
    assert [path.name for path in folder.iterdir()] == ["data"]
    return {path.name: path.read_bytes() for path in (folder / "data").iterdir()}


def trained(folder: Path) -> dict[str, Any]:
    """Every number that a run leaves behind, the times it took apart; no temporary file may be left."""
    workdir = folder / "work"
    assert [str(path) for path in workdir.rglob("*") if "partial" in path.name or "-tmp" in path.name] == []
    model = read_model(workdir / "model")
    found: dict[str, Any] = {
        "metrics": [{**epoch, "seconds": None} for epoch in read_metrics(workdir / "metrics.jsonl")],
        "scores": json.loads((workdir / "test.json").read_text()),
        "best": model.origin["epoch"],
        "centroids": np.asarray(model.centroids).tobytes(),
        "weights": [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(model.variables)],
    }
    for path in sorted((workdir / "assignments").iterdir()):
        with np.load(path) as stages:
            found |= {f"{path.name} {name}": stages[name].tobytes() for name in stages}
    return found
