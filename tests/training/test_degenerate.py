"""Labels, chunks and splits that leave nothing, or next to nothing, to learn from: what a run does with each."""

from __future__ import annotations

import dataclasses
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import emocluster_jax
from emocluster_jax.config import ClusteringConfig, TrainConfig
from emocluster_jax.console import Console
from emocluster_jax.corpora.labels import VAD, LabelColumns
from emocluster_jax.errors import InputError
from emocluster_jax.feed.split import AUDIO, ResidentSplit, place
from emocluster_jax.inference.model_directory import read_model
from emocluster_jax.inference.predictor import load_model
from emocluster_jax.records.reader import open_data
from emocluster_jax.training.checkpoints import Progress
from emocluster_jax.training.data import TrainingData, label_statistics
from emocluster_jax.training.loop import fit
from emocluster_jax.training.metrics_log import read_metrics
from launch import evaluate, train
from running import call
from small_models import noise
from small_records import write_records
from small_training import CONFIG, FEATURES, draw_recordings, make_data


def relabelled(split: Any, **columns: float) -> Any:
    """The split with every label of these attributes replaced."""
    labels = split.labels.values.copy()
    for name, value in columns.items():
        labels[:, VAD.index(name)] = value
    return dataclasses.replace(split, labels=LabelColumns(VAD, labels))


def of_few_chunks(recordings: int, distinct: int) -> ResidentSplit:
    """Recordings whose chunks are copies of `distinct` different ones."""
    chunks, labels = draw_recordings(recordings, seed=6)
    all_chunks = chunks.reshape(-1, *chunks.shape[2:])
    numbers = np.arange(len(all_chunks)) % distinct
    return place({AUDIO: all_chunks[numbers].reshape(chunks.shape)}, LabelColumns(VAD, labels), recordings)


def trained(config: TrainConfig, data: TrainingData, workdir: Path) -> tuple[Progress, list[dict]]:
    progress = fit(config, data, workdir, Console(quiet=True))
    metrics = read_metrics(workdir / "metrics.jsonl")
    assert len(metrics) == config.epochs and all(np.isfinite(line["stage2_cross_entropy"]) for line in metrics)
    assert np.isfinite(load_model(workdir)(noise(2.0), 16_000).embedding).all()
    return progress, metrics


@pytest.mark.parametrize(("label", "said"), [(4e30, "4e+30"), (-math.inf, "-inf")])  # what became of -4e39
@pytest.mark.parametrize("feed", ["resident", "streamed"])
def test_data_with_labels_beyond_their_range(label: float, said: str, feed: Any, tmp_path: Path) -> None:
    """As earlier versions prepared them."""
    chunks, labels = draw_recordings(8, seed=3)
    labels[2, 0] = label
    write_records(tmp_path / "data", FEATURES, {"train": (chunks, labels), "test": (chunks, labels)})
    message = f"train-002 of the split 'train' has the arousal label {said}; expected a number from -1000000 to 1000000"
    with pytest.raises(InputError, match=re.escape(message)):
        emocluster_jax.fit(tmp_path / "data", tmp_path / "run", CONFIG, feed=feed, console=Console(quiet=True))
    with pytest.raises(InputError, match=re.escape(message)):
        open_data(tmp_path / "data").describe("train")
    with pytest.raises(InputError, match=re.escape(f"the training split has the arousal label {said}; expected a")):
        label_statistics(labels[:, :1], ("arousal",))


def test_more_principal_components_than_an_embedding_has_numbers(tmp_path: Path) -> None:
    config = dataclasses.replace(CONFIG, clustering=ClusteringConfig(pca_components=257))
    with pytest.raises(InputError, match=r"`pca_components` is 257; expected 1 to \d+, the numbers of an embedding"):
        fit(config, make_data(), tmp_path, Console(quiet=True))


def test_the_largest_labels_that_there_are(tmp_path: Path) -> None:
    data = make_data(unlabeled=False)
    labels = np.full(data.train.labels.values.shape, 1e6, np.float32)  # type: ignore[union-attr]
    labels[::2] = -1e6
    train_split = dataclasses.replace(data.train, labels=LabelColumns(VAD, labels))  # type: ignore[type-var]
    trained(CONFIG, dataclasses.replace(data, train=train_split), tmp_path)
    model = read_model(tmp_path / "model")
    mean = labels.mean(dtype=np.float64)
    assert model.label_mean == pytest.approx(mean) and model.label_std == pytest.approx(math.sqrt(1e12 - mean**2))


@pytest.mark.parametrize("distinct", [1, 3])
def test_fewer_distinct_chunks_than_clusters(distinct: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Equal chunks have equal embeddings: the clusters collapse to one, or to as many as there are."""
    data = dataclasses.replace(make_data(), train=of_few_chunks(25, distinct), unlabeled=of_few_chunks(13, distinct))
    _, metrics = trained(CONFIG, data, tmp_path)
    for line in metrics:
        for sizes in (line["cluster_sizes"], line["cluster_sizes_unlabeled"]):
            assert sum(size > 0 for size in sizes) == distinct
        assert 0 <= line["ccc_loss"] <= 2
    warnings = capsys.readouterr().err.splitlines()
    assert len(warnings) == 6  # two stages, three epochs
    assert warnings[0] == (
        f"warning: epoch 1, stage I: {distinct} of 5 clusters hold all chunks: their embeddings hardly differ"
    )


def test_equal_chunks_and_every_transform_of_their_embeddings(tmp_path: Path) -> None:
    clustering = ClusteringConfig(pca_components=4, whiten=True, l2_normalize=True, initialization="kmeans++")
    data = dataclasses.replace(make_data(unlabeled=False), train=of_few_chunks(25, 1))
    _, metrics = trained(dataclasses.replace(CONFIG, clustering=clustering), data, tmp_path)
    assert sorted(metrics[0]["cluster_sizes"]) == [0, 0, 0, 0, 100]
    assert np.isfinite(read_model(tmp_path / "model").centroids).all()  # type: ignore[arg-type]


def test_constant_labels_of_an_attribute(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing is learned from them, and the other attribute chooses the best epoch."""
    whole = make_data()
    assert whole.validation is not None
    data = dataclasses.replace(
        whole, train=relabelled(whole.train, valence=3.1), validation=relabelled(whole.validation, valence=np.nan)
    )
    progress, metrics = trained(CONFIG, data, tmp_path)
    assert capsys.readouterr().err.splitlines() == [
        "warning: all valence labels of the training split are the same: there is nothing to learn from them",
        "warning: the validation split has no valence labels that differ, hence no CCC of valence: the best epoch is "
        "chosen by arousal alone",
    ]
    assert metrics[0]["validation_ccc"]["valence"] is None
    assert [line["validation_ccc_mean"] for line in metrics] == [line["validation_ccc"]["arousal"] for line in metrics]
    assert progress.best_value == max(line["validation_ccc_mean"] for line in metrics)
    model = read_model(tmp_path / "model")
    np.testing.assert_array_equal(model.label_std[1], 1)
    assert model.label_mean[1] == np.float32(3.1)


def test_constant_labels_everywhere(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole = make_data()
    assert whole.validation is not None
    same = {"arousal": 4.0, "valence": 2.0}
    data = dataclasses.replace(
        whole, train=relabelled(whole.train, **same), validation=relabelled(whole.validation, **same)
    )
    progress, metrics = trained(CONFIG, data, tmp_path)
    assert progress == Progress(3, best_epoch=3, best_value=-math.inf)
    assert [line["ccc_loss"] for line in metrics] == [1, 1, 1]
    assert metrics[0]["validation_ccc_mean"] is None
    warnings = capsys.readouterr().err.splitlines()
    assert len(warnings) == 3 and warnings[2].endswith("no CCC of arousal and valence: the last epoch is kept")
    with pytest.raises(InputError, match="`patience` waits for a better validation CCC, but there is no validation"):
        fit(dataclasses.replace(CONFIG, patience=1), data, tmp_path / "patient", Console(quiet=True))


@pytest.mark.parametrize("splits", ["all", "train"])
def test_one_recording_a_split(splits: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By the commands: training, evaluation and plots, in one cluster; and with no other split at all."""
    names = ("train", "validation", "test", "unlabeled") if splits == "all" else ("train",)
    write_records(tmp_path / "data", FEATURES, {name: draw_recordings(1, seed) for seed, name in enumerate(names)})
    workdir, data = tmp_path / "run", ["--data-dir", str(tmp_path / "data")]
    options = ["--epochs", "2", "--clusters", "1", "--width-multiplier", "0.125", "--batch-size", "4"]
    call(train, *data, "--workdir", str(workdir), *options)
    out, err = capsys.readouterr()
    assert "2 epochs; the last one's model is kept" in out
    assert "all arousal labels of the training split are the same" in err
    assert "a batch of 4 recordings is larger than the training split, which has 1: an epoch is one step" in err
    metrics = read_metrics(workdir / "metrics.jsonl")
    assert [line["best_epoch"] for line in metrics] == [1, 2]
    assert [line["cluster_sizes"] for line in metrics] == [[4], [4]]
    # All are of the same cluster, and of the same rating.
    assert [(line["stage2_cross_entropy"], line["ccc_loss"]) for line in metrics] == [(0, 1), (0, 1)]
    assert metrics[1]["nmi_previous"] == 1 and "clusters hold all chunks" not in err
    assert (workdir / "test.json").exists() == (workdir / "test_predictions.csv").exists() == (splits == "all")
    if splits == "all":
        assert "the validation split has no arousal labels that differ" in err
        call(evaluate, *data, "--checkpoint", str(workdir / "model"))
        assert '"n": 1' in capsys.readouterr().out
    with pytest.raises(InputError, match="--clusters 5 is more than the 4 chunks of the train split"):
        call(train, *data, "--workdir", str(tmp_path / "more"), *options, "--clusters", "5")
