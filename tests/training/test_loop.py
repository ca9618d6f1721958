"""The loop from start to end on small data: resuming, early stopping, and what it refuses."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest

from emocluster_jax.config import AudioConfig, ClusteringConfig, ModelConfig, OptimizerConfig, TrainConfig
from emocluster_jax.console import Console
from emocluster_jax.corpora.labels import VAD, LabelColumns
from emocluster_jax.errors import InputError
from emocluster_jax.inference.model_directory import model_epoch, read_model
from emocluster_jax.runtime.loops import StoppedError
from emocluster_jax.training.checkpoints import Progress
from emocluster_jax.training.data import TrainingData
from emocluster_jax.training.loop import fit
from emocluster_jax.training.metrics_log import read_metrics
from emocluster_jax.training.not_finite import DivergedError
from small_training import CONFIG, MODEL, make_data, make_split
from watched_console import WatchedConsole


@pytest.fixture(scope="module")
def data() -> TrainingData:
    return dataclasses.replace(make_data(), audio=AudioConfig(channel=2))


@pytest.fixture(scope="module")
def undisturbed(data: TrainingData, tmp_path_factory: pytest.TempPathFactory) -> Path:
    workdir = tmp_path_factory.mktemp("undisturbed")
    fit(CONFIG, data, workdir, Console(quiet=True))
    return workdir


def comparable(workdir: Path) -> list[dict]:
    return [
        {name: value for name, value in epoch.items() if name != "seconds"}
        for epoch in read_metrics(workdir / "metrics.jsonl")
    ]


def test_a_run_leaves_metrics_assignments_and_a_model(undisturbed: Path) -> None:
    metrics = read_metrics(undisturbed / "metrics.jsonl")
    assert [epoch["epoch"] for epoch in metrics] == [1, 2, 3]
    assert sum(metrics[0]["cluster_sizes"]) == 25 * 4
    assert sum(metrics[0]["cluster_sizes_unlabeled"]) == 13 * 4
    assert metrics[0]["nmi_previous"] is None and 0 <= metrics[1]["nmi_previous"] <= 1
    assert metrics[2]["ccc_loss"] < metrics[0]["ccc_loss"]
    assert {"embed", "kmeans", "steps", "validate", "save"} <= set(metrics[0]["seconds"])
    assert len(list((undisturbed / "assignments").iterdir())) == 3
    assert not (undisturbed / "not_finite").exists() and "left_out_batches" not in metrics[0]
    best = max(metrics, key=lambda epoch: epoch["validation_ccc_mean"])
    model = read_model(undisturbed / "model")
    assert model.origin["epoch"] == best["epoch"] == metrics[-1]["best_epoch"]
    assert model.audio == AudioConfig(channel=2)
    assert model.centroids is not None and model.centroids.shape[0] == MODEL.clusters


def test_a_run_that_was_killed_goes_on_from_a_checkpoint_within_the_epoch(
    data: TrainingData, undisturbed: Path, tmp_path: Path
) -> None:
    class Killed(BaseException):
        pass

    def stop() -> bool:
        if list((tmp_path / "checkpoints").glob("epoch-000000-stage-2-step-00000[2-9]")):
            raise Killed
        return False

    # Shorter than the embedding, and than a step: there is a step between any two.
    config = dataclasses.replace(CONFIG, checkpoint_minutes=1e-6)
    with pytest.raises(Killed):
        fit(config, data, tmp_path, Console(quiet=True), stop=stop)
    fit(CONFIG, data, tmp_path, Console(quiet=True))
    assert comparable(tmp_path) == comparable(undisturbed)


def test_resumed_run_is_bit_equal_to_an_undisturbed_one(data: TrainingData, undisturbed: Path, tmp_path: Path) -> None:
    ends: list[int] = []

    def after_epoch() -> None:
        ends.append(len(read_metrics(tmp_path / "metrics.jsonl")))

    first, console = WatchedConsole(), WatchedConsole()
    with pytest.raises(StoppedError):
        fit(CONFIG, data, tmp_path, first, stop=lambda: ends == [1], after_epoch=after_epoch)
    fit(CONFIG, data, tmp_path, console, after_epoch=after_epoch)
    ccc = [epoch["validation_ccc_mean"] for epoch in comparable(tmp_path)]
    shown = [[task.note for task in each.tasks if task.description.startswith("epoch")] for each in (first, console)]
    assert shown == [["", f"CCC {ccc[0]:.3f}"], [f"best CCC {ccc[0]:.3f}", f"CCC {ccc[1]:.3f}"]]
    assert ends == list(range(1, CONFIG.epochs + 1))
    assert comparable(tmp_path) == comparable(undisturbed)
    models = [read_model(folder / "model") for folder in (undisturbed, tmp_path)]
    for one, other in zip(*(jax.tree.leaves((m.variables, m.centroids)) for m in models), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_run_that_stops_early_says_so(data: TrainingData, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert data.validation is not None
    opposite = LabelColumns(VAD, 8 - data.validation.labels.of(VAD))  # so that what is learnt makes it worse
    worse = dataclasses.replace(data, validation=dataclasses.replace(data.validation, labels=opposite))
    assert fit(dataclasses.replace(CONFIG, patience=1), worse, tmp_path, Console()).epoch == 2
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].startswith("Training: 3 epochs, fewer after 1 without a better one; ")
    assert lines[-1] == "Stopped: 1 epoch brought no better one than epoch 1"


def test_the_same_seed_gives_the_same_bits(data: TrainingData, undisturbed: Path, tmp_path: Path) -> None:
    for seed in (0, 1):
        fit(dataclasses.replace(CONFIG, seed=seed), data, tmp_path / str(seed), Console(quiet=True))
    assert comparable(tmp_path / "0") == comparable(undisturbed) != comparable(tmp_path / "1")


def test_a_damaged_checkpoint_is_named_and_the_one_before_goes_on(
    data: TrainingData, undisturbed: Path, tmp_path: Path
) -> None:
    workdir = Path(shutil.copytree(undisturbed, tmp_path / "run"))
    newest = workdir / "checkpoints" / "epoch-000003"
    damaged = max((path for path in newest.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)
    content = bytearray(damaged.read_bytes())
    content[len(content) // 2] ^= 1
    damaged.write_bytes(content)
    with pytest.raises(InputError) as error:
        fit(CONFIG, data, workdir, Console(quiet=True))
    assert f"{damaged} is damaged" in str(error.value)
    assert f"remove {newest} and resume: the run then goes on from epoch-000002" in str(error.value)
    shutil.rmtree(newest)
    fit(CONFIG, data, workdir, Console(quiet=True))
    assert comparable(workdir) == comparable(undisturbed)
    models = [read_model(folder / "model") for folder in (undisturbed, workdir)]
    for one, other in zip(*(jax.tree.leaves((m.variables, m.centroids)) for m in models), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_model_that_the_checkpoint_does_not_know_is_replaced_or_refused(
    data: TrainingData, undisturbed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Versions that wrote the model before the checkpoint could be killed between the two."""
    assert comparable(undisturbed)[1]["best_epoch"] < comparable(undisturbed)[2]["best_epoch"] == 3
    workdir, console = Path(shutil.copytree(undisturbed, tmp_path / "run")), Console(quiet=True)
    shutil.rmtree(workdir / "checkpoints" / "epoch-000003")
    model, best = workdir / "model", comparable(undisturbed)[1]["best_epoch"]
    with pytest.raises(InputError) as error:
        fit(dataclasses.replace(CONFIG, epochs=2), data, workdir, console)
    assert str(error.value) == (
        f"{model} is not of this run's epoch {best}, the best of 2; go on with `epochs=3` or more, so that the next "
        "epoch replaces it"
    )
    fit(CONFIG, data, workdir, console)
    assert comparable(workdir) == comparable(undisturbed)
    assert read_model(model).origin["epoch"] == 3
    warning = f"warning: {model} is not of this run's epoch {best}, the best so far; the next epoch replaces it\n"
    assert capsys.readouterr().err.endswith(warning)


def test_another_runs_checkpoint_and_model_are_not_gone_on_with(
    data: TrainingData, undisturbed: Path, tmp_path: Path
) -> None:
    newest = Path(shutil.copytree(undisturbed, tmp_path / "run")) / "checkpoints" / "epoch-000003"
    with pytest.raises(InputError) as error:
        fit(CONFIG, data, tmp_path / "run", Console(quiet=True), run_id="0123456789abcdef")
    assert str(error.value) == (
        f"{newest} is of another run or epoch; remove {newest} and resume: the run then goes on from epoch-000002"
    )
    assert model_epoch(tmp_path / "run" / "model") == 3
    assert model_epoch(tmp_path / "run" / "model", "0123456789abcdef") is None


def test_nothing_is_left_to_do_in_a_complete_run(data: TrainingData, undisturbed: Path, tmp_path: Path) -> None:
    workdir = Path(shutil.copytree(undisturbed, tmp_path / "run"))
    progress = fit(CONFIG, data, workdir, Console(quiet=True))
    assert progress.epoch == 3 and comparable(workdir) == comparable(undisturbed)


def test_supervised_without_validation_keeps_the_last_epoch(tmp_path: Path) -> None:
    config = dataclasses.replace(
        CONFIG,
        epochs=2,
        optimizer=OptimizerConfig(freeze_regressor=True),
        clustering=ClusteringConfig(pca_components=4, whiten=True, l2_normalize=True, initialization="kmeans++"),
    )
    progress = fit(config, make_data(unlabeled=False, validation=False), tmp_path, Console(quiet=True))
    assert progress == Progress(epoch=2, best_epoch=2)
    metrics = read_metrics(tmp_path / "metrics.jsonl")
    assert "stage1_cross_entropy" not in metrics[0] and "validation_ccc" not in metrics[0]
    model = read_model(tmp_path / "model")
    assert model.transform is not None and model.centroids is not None
    assert model.centroids.shape == (MODEL.clusters, 4)
    # Frozen means the random draw: its biases are still the zeros that they were initialised with.
    assert not model.variables["params"]["attribute_regressor"]["output"]["bias"].any()


def test_a_loss_that_is_not_finite_stops_the_run(data: TrainingData, tmp_path: Path) -> None:
    config = dataclasses.replace(CONFIG, optimizer=OptimizerConfig(sgd_learning_rate=1e18))
    with pytest.raises(
        DivergedError, match=r"epoch 1, stage I, step \d+: the cross entropy is (nan|inf).*`on_nan=skip`"
    ):
        fit(config, data, tmp_path, Console(quiet=True))
    assert not (tmp_path / "model").exists()
    # Its first update was finite, but nothing is after it: there is no going on.
    with pytest.raises(DivergedError, match=r"epoch 1, stage II: the embedding is nan .*lower the learning rates"):
        fit(dataclasses.replace(config, on_nan="skip"), data, tmp_path, Console(quiet=True))


def test_more_clusters_than_chunks(data: TrainingData, tmp_path: Path) -> None:
    config = TrainConfig(model=ModelConfig(clusters=53))
    with pytest.raises(InputError, match="`clusters=53` is more than the 52 chunks of the unlabeled split"):
        fit(config, data, tmp_path, Console(quiet=True))


def test_attribute_without_labels(data: TrainingData, tmp_path: Path) -> None:
    labels = data.train.labels.values.copy()
    labels[:, 1] = np.nan
    unrated = dataclasses.replace(data, train=dataclasses.replace(data.train, labels=LabelColumns(VAD, labels)))
    with pytest.raises(InputError, match="the training split has no dominance labels"):
        fit(TrainConfig(model=ModelConfig(attributes=("dominance",))), unrated, tmp_path, Console(quiet=True))


def test_checkpoint_of_another_network(data: TrainingData, undisturbed: Path, tmp_path: Path) -> None:
    workdir = shutil.copytree(undisturbed, tmp_path / "run")
    config = dataclasses.replace(CONFIG, model=dataclasses.replace(MODEL, width_multiplier=0.25), epochs=4)
    with pytest.raises(InputError, match=r"epoch-000003 does not fit: .* use the settings"):
        fit(config, data, Path(workdir), Console(quiet=True))


@pytest.mark.usefixtures("undisturbed")
def test_recordings_of_another_number_compile_nothing_but_kmeans_and_what_moves_rows(tmp_path: Path) -> None:
    other = dataclasses.replace(
        make_data(), train=make_split(31, seed=1), validation=make_split(3, seed=2), unlabeled=make_split(50, seed=3)
    )
    compiled: list[str] = []

    def count(event: str, seconds: float, **_: object) -> None:
        if event.endswith("backend_compile_duration"):
            compiled.append(f"{event}: {seconds:.2f} s")

    jax.monitoring.register_event_duration_secs_listener(count)
    try:
        fit(CONFIG, other, tmp_path, Console(quiet=True))
    finally:
        jax.monitoring.unregister_event_duration_listener(count)
    # For two splits K-means and the draw of a batch; for all three, a block taken and its outputs put in their place.
    assert 0 < len(compiled) <= 2 * 2 + 3 * 2
