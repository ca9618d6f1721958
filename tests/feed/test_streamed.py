"""Streamed chunks are the same as resident ones, to the bit, and so is what a network learns of them."""

from __future__ import annotations

import dataclasses
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any, cast

import jax
import numpy as np
import pytest

import emocluster_jax
from compile_flags import flags_of_devices
from emocluster_jax.config import AugmentationConfig
from emocluster_jax.console import Console, Task
from emocluster_jax.errors import InputError
from emocluster_jax.feed.from_records import load_split
from emocluster_jax.feed.split import Feed, Split
from emocluster_jax.inference.model_directory import read_model
from emocluster_jax.records.preparation import Preparation, read_preparation
from emocluster_jax.records.reader import open_data
from emocluster_jax.runtime.loops import StoppedError
from emocluster_jax.training.data import TrainingData
from emocluster_jax.training.loop import fit
from emocluster_jax.training.metrics_log import read_metrics
from small_records import write_records
from small_training import AUGMENTED, CONFIG, FEATURES, draw_recordings

pytestmark = pytest.mark.usefixtures("optimized")
TESTS = Path(__file__).resolve().parent.parent
POOL = np.array([0, 1, 3, 4, 5, 8, 9, 11, 12, 13, 14, 17, 18])


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    """25 recordings for training, 9 for validation, a pool of 20."""
    sizes = {"train": 25, "validation": 9, "unlabeled": 20}
    splits = {split: draw_recordings(size, seed) for seed, (split, size) in enumerate(sizes.items())}
    vectors = np.random.default_rng(9).normal(size=(25, 3))
    vectors[::4] = np.nan
    frames = np.random.default_rng(10).normal(size=(25, FEATURES.chunks_per_utterance, 3, 2))
    frames[1::4] = np.nan
    write_records(tmp_path / "records", FEATURES, splits, further={"text": vectors, "face": frames})
    return tmp_path / "records"


def load(data_dir: Path, split: str, feed: Feed, indices: np.ndarray | None = None) -> Split:
    return load_split(open_data(data_dir), split, Console(quiet=True), indices, feed)


def training_data(data_dir: Path, feed: Feed) -> TrainingData:
    preparation: Preparation = read_preparation(data_dir)
    return TrainingData(
        train=load(data_dir, "train", feed),
        validation=load(data_dir, "validation", feed),
        unlabeled=load(data_dir, "unlabeled", feed, POOL),
        features=FEATURES,
        feature_mean=preparation.feature_statistics.mean,
        feature_std=preparation.feature_statistics.std,
    )


@pytest.mark.parametrize("augmentation", [AugmentationConfig(), AUGMENTED])
def test_training_and_evaluation_are_bit_equal(
    augmentation: AugmentationConfig, data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even if the streamed run is stopped in the middle of its stages, and goes on."""
    doing: list[str] = [""]
    monkeypatch.setattr(Task, "describe", lambda task, text: doing.append(text or doing[-1]))
    config = dataclasses.replace(CONFIG, augmentation=augmentation)
    metrics, models, predictions = [], [], []
    for feed in ("resident", "streamed"):
        run = config, training_data(data_dir, cast(Feed, feed)), tmp_path / feed, Console(quiet=True)
        for stage in ("stage I", "stage II") if feed == "streamed" else ():
            with pytest.raises(StoppedError):
                fit(*run, stop=lambda stage=stage: doing[-1] == f"{stage}: training")
        fit(*run)
        metrics.append([{**epoch, "seconds": None} for epoch in read_metrics(tmp_path / feed / "metrics.jsonl")])
        model = read_model(tmp_path / feed / "model")
        models.append(jax.tree.leaves((model.variables, model.centroids)))
    assert metrics[0] == metrics[1] and len(metrics[0]) == CONFIG.epochs
    for resident, streamed in zip(*models, strict=True):
        np.testing.assert_array_equal(resident, streamed)

    for feed in ("resident", "streamed"):
        given = tmp_path / feed / "model", data_dir, "validation"
        evaluation = emocluster_jax.evaluate(*given, feed=cast(Feed, feed), console=Console(quiet=True))
        predictions.append(evaluation.predictions)
        best = max(metrics[0], key=lambda epoch: epoch["validation_ccc_mean"])
        assert best["validation_ccc"] == pytest.approx({name: s.ccc for name, s in evaluation.scores.items()}, abs=1e-5)
    np.testing.assert_array_equal(*predictions)


def test_a_stream_can_be_left_and_begun_again(data_dir: Path) -> None:
    split = load(data_dir, "train", "streamed")
    batches = np.random.default_rng(0).permutation(split.chunk_count).reshape(10, 10)
    with split.draws(batches, 1) as rows:
        begun = [np.asarray(next(rows)["audio"]) for _ in range(4)]
    with split.draws(batches, 1) as rows:
        whole = [np.asarray(given["audio"]) for given in rows]
    assert len(whole) == 10
    np.testing.assert_array_equal(begun, whole[:4])


def test_a_file_that_vanishes_during_the_run_is_named(data_dir: Path) -> None:
    split = load(data_dir, "train", "streamed")
    gone = sorted(data_dir.glob("*train*"))[2]
    gone.unlink()
    with pytest.raises(InputError, match=rf"{gone.name} is gone since the run began"), split.blocks(2) as blocks:
        list(blocks)


def test_a_file_that_is_damaged_during_the_run_is_named(data_dir: Path) -> None:
    split = load(data_dir, "train", "streamed")
    damaged = sorted(data_dir.glob("*train*"))[1]
    content = bytearray(damaged.read_bytes())
    content[len(content) // 2] ^= 1
    damaged.write_bytes(content)
    with pytest.raises(InputError, match=rf"{damaged.name} is damaged since the run began"), split.blocks(2) as blocks:
        list(blocks)


def test_files_are_checked_when_a_split_is_opened(data_dir: Path) -> None:
    damaged = sorted(data_dir.glob("*train*"))[1]
    damaged.write_bytes(damaged.read_bytes() + b"\0")
    with pytest.raises(InputError, match=rf"{damaged.name} is damaged \(its SHA-256 differs\)"):
        load(data_dir, "train", "streamed")


@pytest.mark.parametrize("change", [Path.unlink, lambda path: path.write_text('{"x')])
def test_metadata_of_tfds_are_missing_or_damaged(data_dir: Path, change: Any) -> None:
    change(data_dir / "dataset_info.json")
    with pytest.raises(InputError, match=r"dataset_info\.json (cannot be read|is damaged)"):
        load(data_dir, "train", "streamed")


@pytest.mark.parametrize(("processes", "devices"), [(1, 3), (2, 2)])
def test_every_device_gets_the_rows_that_it_would_hold(data_dir: Path, processes: int, devices: int) -> None:
    environment = os.environ | {
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": flags_of_devices(devices),
        "PYTHONPATH": os.pathsep.join(map(str, (TESTS.parent, TESTS))),
    }
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    worker = str(Path(__file__).with_name("streaming_worker.py"))
    running = [
        subprocess.Popen(
            [sys.executable, worker, str(data_dir), address, str(processes), str(i)],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for i in range(processes)
    ]
    for process in running:
        output, _ = process.communicate(timeout=300)
        assert process.returncode == 0, output
