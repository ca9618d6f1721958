"""Training with a moving average of the weights, frozen layers, matched heads and learning rates that change."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from emocluster_jax.config import TrainConfig
from emocluster_jax.console import Console
from emocluster_jax.errors import InputError
from emocluster_jax.inference.forward import make_forward
from emocluster_jax.inference.model_directory import read_model
from emocluster_jax.models.registry import network_of
from emocluster_jax.objectives.stage import stages_of
from emocluster_jax.runtime import parallel
from emocluster_jax.runtime.loops import StoppedError
from emocluster_jax.training.checkpoints import restore_checkpoint
from emocluster_jax.training.data import TrainingData
from emocluster_jax.training.fine_tuning import read_initial_model
from emocluster_jax.training.loop import fit
from emocluster_jax.training.metrics_log import read_metrics
from emocluster_jax.training.steps import WeightAverage, create_train_state, numbered_as_predicted
from emocluster_jax.training.workdir import read_assignments
from small_training import CONFIG, make_data

pytestmark = pytest.mark.usefixtures("optimized")
GENTLE = CONFIG.replace(
    epochs=2,
    algorithm="adamw",
    weight_decay=0.01,
    adam_learning_rate=0.01,
    warmup_epochs=0.5,
    schedule="cosine",
    encoder_rate_factor=0.1,
    average_decay=0.9,
    head="matched",
    balanced_batches=False,
    cluster_weight=0.3,
    cluster_warmup_epochs=1.0,
)


@pytest.fixture(scope="module")
def data() -> TrainingData:
    return make_data()


@pytest.fixture(scope="module")
def run(data: TrainingData, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("gentle")
    fit(GENTLE, data, folder, Console(quiet=True))
    return folder


def comparable(folder: Path) -> list[dict[str, Any]]:
    return [epoch | {"seconds": 0} for epoch in read_metrics(folder / "metrics.jsonl")]


def test_a_resumed_run_is_bit_equal(run: Path, data: TrainingData, tmp_path: Path) -> None:
    ended: list[int] = []
    settings = GENTLE, data, tmp_path, Console(quiet=True)
    with pytest.raises(StoppedError):
        fit(*settings, stop=lambda: len(ended) == 1, after_epoch=lambda: ended.append(1))
    fit(*settings)
    assert comparable(tmp_path) == comparable(run)
    assert len(comparable(run)) == 2


def test_rates_are_logged_as_they_were(run: Path) -> None:
    first, last = (epoch["steps"]["stage2"] for epoch in comparable(run))
    assert 0 < last["learning_rate_adamw"] < first["learning_rate_adamw"] < 0.01
    for rates in (first, last):
        assert rates["learning_rate_encoder_adamw"] == pytest.approx(0.1 * rates["learning_rate_adamw"])
        assert rates["learning_rate_cluster_head"] == pytest.approx(5 * rates["learning_rate_adamw"])


def test_the_model_is_the_average(run: Path, data: TrainingData, tmp_path: Path) -> None:
    optimizers = {stage.name: stage.optimizer for stage in stages_of(GENTLE) if stage is not None}
    state = create_train_state(network_of(GENTLE.model), data.features, optimizers, jax.random.key(0)).averaging()
    model = read_model(run / "model")
    best = f"epoch-{model.origin['epoch']:06}"
    shutil.copytree(run / "checkpoints" / best, tmp_path / best)
    found = restore_checkpoint(tmp_path, state, run_id=model.origin["run"])
    assert found is not None and found.state.average is not None
    assert found.state.average.steps == found.progress.epoch * (4 + 7)  # of 13 and 25 recordings, 4 in a batch
    jax.tree.map(np.testing.assert_array_equal, model.variables, found.state.average.variables)
    differ = jax.tree.map(lambda one, other: not np.array_equal(one, other), model.variables, found.state.variables)
    assert all(jax.tree.leaves(differ))


def test_an_average_forgets_faster_in_its_first_steps() -> None:
    average = WeightAverage({"x": np.float32(1.0)}, np.int32(0))
    kept = []
    for _ in range(100):
        kept.append(
            float(average._replace(variables={"x": np.float32(1.0)}).after({"x": np.float32(0.0)}, 0.8).variables["x"])
        )
        average = average.after({"x": np.float32(0.0)}, 0.8)
    np.testing.assert_allclose(kept[:3], [1 / 10, 2 / 11, 3 / 12], rtol=1e-6)
    assert kept[-1] == pytest.approx(0.8)
    assert average.steps == 100


@pytest.mark.parametrize("train_layers", ["shared", "heads"])
def test_frozen_layers_stay_as_they_are(train_layers: Any, run: Path, data: TrainingData, tmp_path: Path) -> None:
    """With their running statistics, while everything else moves."""
    config = CONFIG.replace(epochs=1, init_from=str(run), train_layers=train_layers)
    initial = read_initial_model(config, data.features)
    assert initial is not None
    fit(config, data, tmp_path, Console(quiet=True), initial=initial)
    before, after = initial.variables, read_model(tmp_path / "model").variables
    jax.tree.map(np.testing.assert_array_equal, before["batch_stats"], after["batch_stats"])
    moved = {
        "/".join(key.key for key in path[:2])
        for (path, old), new in zip(
            jax.tree_util.tree_flatten_with_path(before["params"])[0], jax.tree.leaves(after["params"]), strict=True
        )
        if not np.array_equal(old, new)
    }
    heads = {
        f"{head}/{layer}" for head in ("cluster_classifier", "attribute_regressor") for layer in ("hidden", "output")
    }
    assert moved == heads | ({"encoder/shared"} if train_layers == "shared" else set())


def test_clusters_are_numbered_as_the_head_predicts_them() -> None:
    random = np.random.default_rng(0)
    predicted = random.integers(0, 5, 400)
    renamed = np.array([3, 0, 4, 1, 2])[predicted]
    renamed[:60] = random.integers(0, 5, 60)  # they need not agree everywhere
    numbers = numbered_as_predicted(renamed, predicted, 5)
    assert np.mean(numbers[renamed] == predicted) > 0.85
    assert sorted(numbers) == list(range(5))
    np.testing.assert_array_equal(numbers[np.array([3, 0, 4, 1, 2])], np.arange(5))


def test_clusters_are_those_of_the_centroids_with_their_numbers(run: Path, data: TrainingData, tmp_path: Path) -> None:
    """Nothing moves in this training, so that the saved network is the one whose embeddings were clustered."""
    still: dict[str, Any] = {f"{name}_learning_rate": 0.0 for name in ("adam", "sgd", "cluster_head")}
    config = CONFIG.replace(epochs=1, init_from=str(run), train_layers="heads", head="matched", **still)
    fit(config, data, tmp_path, Console(quiet=True), initial=read_initial_model(config, data.features))
    model, assignments = read_model(tmp_path / "model"), read_assignments(tmp_path, 1)["stage2"]
    assert data.train is not None and model.centroids is not None
    forward = make_forward(config.model)(parallel.replicate(model.variables), data.train, lambda _: None)
    embeddings = parallel.collect(forward.embeddings, data.train.chunk_count)
    distances = np.linalg.norm(embeddings[:, None] - model.centroids, axis=-1)
    # The embeddings that were clustered have been computed in other blocks, and may round differently.
    assert np.mean(distances.argmin(axis=1) == assignments) > 0.97
    head = model.variables["params"]["cluster_classifier"]["output"]
    predicted = (np.maximum(embeddings, 0) @ head["kernel"] + head["bias"]).argmax(axis=1)
    numbers = numbered_as_predicted(assignments, predicted, CONFIG.model.clusters)
    assert np.mean(assignments == predicted) == np.mean(numbers[assignments] == predicted) > 0.25


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"weight_decay": 0.1}, "`weight_decay` is given, which is part of AdamW; give `algorithm=adamw` as well"),
        ({"stages": "unsupervised", "cluster_weight": 0.0}, "`cluster_weight=0` leaves `stages=unsupervised` nothing"),
    ],
)
def test_settings_that_contradict_each_other(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        TrainConfig().replace(**settings)
