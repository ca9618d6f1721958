"""Numbers that are infinite or NaN: no update comes of them, their batch is named, and the run stops or goes on."""

from __future__ import annotations

import dataclasses
import json
from functools import partial
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from emocluster_jax.clustering.sampling import shuffled_indices
from emocluster_jax.config import ClusteringConfig, ModelConfig, OptimizerConfig, TrainConfig
from emocluster_jax.console import Console
from emocluster_jax.corpora.labels import VAD, LabelColumns
from emocluster_jax.feed.split import AUDIO, place
from emocluster_jax.inference.forward import Outputs
from emocluster_jax.inference.model_directory import read_model
from emocluster_jax.objectives.stage import Batch, Stage
from emocluster_jax.training.data import TrainingData
from emocluster_jax.training.epoch import ClusteringPrograms, StagePrograms, StageView, Stopwatch, run_stage
from emocluster_jax.training.loop import fit
from emocluster_jax.training.metrics_log import read_metrics
from emocluster_jax.training.not_finite import NOT_FINITE, DivergedError, NotFinite
from emocluster_jax.training.steps import (
    LOST_UPDATE,
    StepLog,
    TrainState,
    clustering_program,
    redraw_head_program,
    train_step,
)
from small_training import CONFIG, MODEL, draw_recordings, make_data, make_split

CHUNKS = 4
# The settings of tests/systems, whose programs are in the compilation cache.
REGRESSOR = TrainConfig(
    model=dataclasses.replace(MODEL, system="cnn_regressor", dropout_rate=0.1, clusters=ModelConfig().clusters),
    optimizer=OptimizerConfig(adam_learning_rate=0.005),
    epochs=1,
    batch_size=4,
)


def data_with_nan(split: Literal["train", "validation"], recordings: list[int]) -> TrainingData:
    """Data in whose split one number of these recordings' third chunks is NaN."""
    count, seed = {"train": (25, 6), "validation": (9, 7)}[split]
    chunks, labels = draw_recordings(count, seed)
    chunks[recordings, 2, 5, 5] = np.nan
    whole = make_data(unlabeled=False)
    damaged = dataclasses.replace(whole, **{split: place({AUDIO: chunks}, LabelColumns(VAD, labels), count)})
    return dataclasses.replace(damaged, recording_ids=lambda split, rows: [f"{split}/{row}.wav" for row in rows])


def listed(workdir: Path) -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in sorted((workdir / NOT_FINITE).iterdir())]


def test_a_batch_without_a_finite_loss_is_listed_and_left_out(tmp_path: Path) -> None:
    data, bad = data_with_nan("train", [7]), 4 * 7 + 2
    batches = shuffled_indices(25 * CHUNKS, 4 * CHUNKS, np.random.default_rng((0, 1, 0)))
    (step,) = {int(step) for step in np.argwhere(batches == bad)[:, 0]}
    stopped, skipped = tmp_path / "stopped", tmp_path / "skipped"

    with pytest.raises(DivergedError) as error:
        fit(REGRESSOR, data, stopped, Console(quiet=True))
    (batch,) = listed(stopped)
    assert f"epoch 1, stage II, step {step + 1}: the ccc loss is nan (16 chunks, listed in {stopped}" in str(
        error.value
    )
    assert (batch["epoch"], batch["part"], batch["step"], batch["split"]) == (1, "stage II", step + 1, "train")
    assert batch["numbers"] == {"ccc_loss": "nan"}
    assert batch["chunks"] == [{"recording": f"train/{i // 4}.wav", "chunk": i % 4} for i in batches[step].tolist()]
    assert not (stopped / "model").exists() and not (stopped / "checkpoints").exists()

    fit(dataclasses.replace(REGRESSOR, on_nan="skip"), data, skipped, Console(quiet=True))
    assert listed(skipped) == [batch]
    (metrics,) = read_metrics(skipped / "metrics.jsonl")
    assert metrics["left_out_batches"] == {"stage2": 1} and 0 < metrics["ccc_loss"] < 2
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(read_model(skipped / "model").variables))


def test_a_stage_in_which_all_batches_are_left_out_stops_the_run(tmp_path: Path) -> None:
    data = data_with_nan("train", list(range(25)))
    with pytest.raises(DivergedError, match=r"epoch 1, stage II: the loss or gradient of all 7 batches"):
        fit(dataclasses.replace(REGRESSOR, on_nan="skip"), data, tmp_path, Console(quiet=True))
    assert len(listed(tmp_path)) == 7


def test_embeddings_that_cannot_be_clustered_name_their_recordings(tmp_path: Path) -> None:
    config = dataclasses.replace(CONFIG, on_nan="skip")
    with pytest.raises(DivergedError, match=r"epoch 1, stage II: the embedding is nan \(2 chunks, listed in"):
        fit(config, data_with_nan("train", [3, 11]), tmp_path, Console(quiet=True))
    (found,) = listed(tmp_path)
    assert found["chunks"] == [{"recording": f"train/{i}.wav", "chunk": 2} for i in (3, 11)]


def refuse(found: NotFinite) -> None:
    np.testing.assert_array_equal(found.chunks, [7, *range(20, 30)])
    raise DivergedError(str(found))


@pytest.mark.parametrize(
    "settings",
    [
        ClusteringConfig(iterations=3),
        ClusteringConfig(iterations=3, initialization="kmeans++"),
        ClusteringConfig(iterations=3, pca_components=4, whiten=True),
        ClusteringConfig(iterations=3, l2_normalize=True),
    ],
    ids=["random", "kmeans++", "components", "unit length"],
)
def test_clustering_ends_and_names_the_chunks_of_infinite_embeddings(settings: ClusteringConfig) -> None:
    split = make_split(25, seed=6)
    cluster = clustering_program(settings, MODEL.clusters, split.chunk_count)
    for value in (np.inf, -np.inf, np.nan):
        embeddings = np.random.default_rng(0).normal(size=(1, 25 * CHUNKS, 32)).astype(np.float32)
        embeddings[0, 7, 3] = embeddings[0, 20:30] = value
        outputs = Outputs(jnp.asarray(embeddings), jnp.zeros((1, 25 * CHUNKS, 2)))
        forward = lambda *_, told=outputs, **__: told  # noqa: E731
        programs = StagePrograms(
            stage=Stage("stage2", lambda *_: None, optax.identity()),
            title="stage II",
            source="train",
            split=split,
            targets=np.zeros((25, 2), np.float32),
            batch_chunks=4 * CHUNKS,
            whole_recordings=False,
            log=StepLog({}, {}),
            train=redraw_head_program(),  # not reached
            clustering=ClusteringPrograms(forward, cluster, redraw_head_program()),
        )
        with Console(quiet=True).task("training") as task, pytest.raises(DivergedError, match="the embedding is nan"):
            view = StageView("stage II", task, Stopwatch(), lambda: False)
            run_stage(programs, TrainState({}, {}, {}), None, (0, 1, 0), view, refuse)


def test_predictions_that_are_not_finite_choose_no_epoch(tmp_path: Path) -> None:
    with pytest.raises(DivergedError, match=r"epoch 1, validation: the prediction is nan \(1 chunks, listed in"):
        fit(REGRESSOR, data_with_nan("validation", [4]), tmp_path, Console(quiet=True))
    (found,) = listed(tmp_path)
    assert found["chunks"] == [{"recording": "validation/4.wav", "chunk": 2}]


def toy_step(loss: Any, weight: Any) -> tuple[TrainState, TrainState, StepLog]:
    """Before and after one step of Adam on `loss(weight)`, and its log; a batch statistic counts the steps."""
    stage = Stage(
        "stage2",
        lambda params, stats, batch, key: (
            loss(params["w"]),
            ({"cross_entropy": loss(params["w"]), "ccc_loss": jnp.float32(1)}, {"steps": stats["steps"] + 1}),
        ),
        optax.adam(0.1),
    )
    params = {"w": jnp.float32(weight)}
    before = TrainState(params, {"steps": jnp.float32(0)}, {"stage2": stage.optimizer.init(params)})
    nothing = Batch({AUDIO: jnp.zeros((1, 1, 1, 1))}, None, jnp.full((1, 1), jnp.nan), jnp.float32(0))
    return before, *jax.jit(partial(train_step, stage))(before, nothing, jax.random.key(0))


@pytest.mark.parametrize(
    ("loss", "weight", "terms"),
    [
        (jnp.log, 0.0, (-np.inf, 1.0)),
        (jnp.sqrt, -1.0, (np.nan, 1.0)),
        (jnp.exp, 100.0, (np.inf, 1.0)),
        # A finite loss with an infinite gradient.
        (jnp.sqrt, 0.0, (LOST_UPDATE, LOST_UPDATE)),
        # A finite gradient whose square, in Adam's second moment, is infinite: the weight would never move again.
        (lambda weight: 3e19 * weight, 1.0, (LOST_UPDATE, LOST_UPDATE)),
    ],
)
def test_no_update_comes_of_what_is_not_finite(loss: Any, weight: float, terms: tuple[float, float]) -> None:
    before, after, found = toy_step(loss, weight)
    for one, other in zip(jax.tree.leaves(before), jax.tree.leaves(after), strict=True):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal([found.terms["cross_entropy"], found.terms["ccc_loss"]], terms)
    assert found.left_out


def test_a_finite_step_updates_everything() -> None:
    before, after, found = toy_step(jnp.sqrt, 4.0)
    assert (found.terms["cross_entropy"], after.batch_stats["steps"]) == (2.0, 1.0)
    assert found.metrics["gradient_norm"] == 0.25
    assert after.params["w"] == pytest.approx(3.9, rel=1e-5)
    assert all(
        not np.array_equal(one, other)
        for one, other in zip(jax.tree.leaves(before), jax.tree.leaves(after), strict=True)
    )


def test_a_metric_that_is_not_finite_leaves_no_step_out() -> None:
    # Each square is finite in float32, their sum is not.
    before, after, found = toy_step(lambda weights: 1.2e19 * weights.sum(), np.ones(4))
    assert np.isinf(found.metrics["gradient_norm"]) and not found.left_out
    assert (np.asarray(after.params["w"]) < np.asarray(before.params["w"])).all()
