"""Fine-tuning starts from another model's weights, as far as they fit."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from emocluster_jax.config import TrainConfig
from emocluster_jax.errors import InputError
from emocluster_jax.evaluation.calibration import CALIBRATION
from emocluster_jax.inference.forward import network_outputs
from emocluster_jax.inference.model_directory import SavedModel, read_model, save_model, weights_sha256
from emocluster_jax.training.fine_tuning import in_label_units, read_initial_model, start_from
from emocluster_jax.training.steps import TrainState
from launch import train
from running import call
from small_models import small_model
from small_records import write_records
from small_training import FEATURES, draw_recordings


def fresh(model: SavedModel) -> TrainState:
    return TrainState(model.variables["params"], model.variables["batch_stats"], {})


def layers_equal_to(state: TrainState, model: SavedModel) -> set[str]:
    """Layers of the state whose every array is the model's."""
    equal: dict[str, bool] = {}
    for (path, own), other in zip(
        jax.tree_util.tree_flatten_with_path(state.variables)[0], jax.tree.leaves(model.variables), strict=True
    ):
        layer = "/".join(key.key for key in path[1:-1])
        equal[layer] = equal.get(layer, True) and np.array_equal(own, other)
    return {layer for layer, same in equal.items() if same}


def test_everything_is_taken_over_where_it_fits() -> None:
    initial = small_model(("arousal", "valence"), seed=1)
    ours = small_model(("arousal", "valence"), seed=2)
    state, drawn = start_from(fresh(ours), initial, ours.config)
    assert drawn == ()
    assert layers_equal_to(state, initial) == layers_equal_to(fresh(initial), initial)
    assert len(layers_equal_to(state, initial)) == 7 + 7 + 1 + 4


def test_last_layers_that_do_not_fit_are_drawn() -> None:
    initial = small_model(("arousal",), seed=1)
    ours = small_model(("valence",), seed=2)  # of the same shapes, yet another attribute
    other_clusters = dataclasses.replace(ours.config, clusters=7)
    output = {"kernel": np.ones((32, 7), np.float32), "bias": np.zeros(7, np.float32)}
    params = ours.variables["params"]
    params = {**params, "cluster_classifier": {**params["cluster_classifier"], "output": output}}
    state, drawn = start_from(TrainState(params, ours.variables["batch_stats"], {}), initial, other_clusters)
    assert drawn == ("attribute_regressor/output", "cluster_classifier/output")
    assert state.params["cluster_classifier"]["output"] is not None
    np.testing.assert_array_equal(state.params["cluster_classifier"]["output"]["kernel"], output["kernel"])
    np.testing.assert_array_equal(
        state.params["attribute_regressor"]["output"]["kernel"], params["attribute_regressor"]["output"]["kernel"]
    )
    np.testing.assert_array_equal(
        state.params["attribute_regressor"]["hidden"]["kernel"],
        initial.variables["params"]["attribute_regressor"]["hidden"]["kernel"],
    )


def test_a_calibrated_model_is_started_from_in_its_label_units() -> None:
    """Of two attributes, one is calibrated, and keeps its predictions under other label statistics."""
    entry = dict.fromkeys(("data_dir", "corpus", "data", "split"), "train") | {"recordings": 9}
    entry |= {"former_mean": 3.0, "former_std": 1.0}
    plain = small_model(("arousal", "valence"))
    initial = dataclasses.replace(plain, origin={CALIBRATION: {"valence": entry}})
    mean, std = np.array([1.0, 2.0], np.float32), np.array([3.0, 0.7], np.float32)
    chunks = {"audio": jnp.asarray(np.random.default_rng(0).normal(size=(6, 1, 62, 128)), jnp.float32)}
    outputs = [
        np.asarray(network_outputs(model.config, jax.tree.map(jnp.asarray, model.variables), chunks).attributes)
        for model in (initial, in_label_units(initial, mean, std))
    ]
    predictions = outputs[0] * initial.label_std + initial.label_mean
    # Float32 of numbers of about 4.
    np.testing.assert_allclose((outputs[1] * std + mean)[:, 1], predictions[:, 1], rtol=1e-5)
    np.testing.assert_array_equal(outputs[1][:, 0], outputs[0][:, 0])
    assert in_label_units(plain, mean, std) is plain


def test_a_model_that_cannot_be_started_from_is_refused(tmp_path: Path) -> None:
    model = small_model()
    save_model(tmp_path / "model", model)
    config = TrainConfig(model=model.config, init_from=str(tmp_path))  # a work directory will do
    found = read_initial_model(config, model.features)
    assert found is not None and weights_sha256(found) == weights_sha256(model)
    wide = dataclasses.replace(config, model=dataclasses.replace(model.config, width_multiplier=1.0))
    with pytest.raises(InputError, match=r"has `width_multiplier=0\.125`, and this run 1;"):
        read_initial_model(wide, model.features)
    system = dataclasses.replace(config, model=dataclasses.replace(model.config, system="ladder", clusters=10))
    with pytest.raises(InputError, match="is a model of `system=emocluster`, and this run is one of ladder"):
        read_initial_model(system, model.features)
    with pytest.raises(InputError, match="other feature settings"):
        read_initial_model(config, FEATURES)
    with pytest.raises(InputError, match="there is no model directory"):
        read_initial_model(dataclasses.replace(config, init_from=str(tmp_path / "no")), model.features)


def test_a_run_begins_with_these_weights_and_goes_on_without_their_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    initial = small_model(("arousal",), system="cnn_regressor", features=FEATURES)
    save_model(tmp_path / "published", initial)
    splits = {"train": draw_recordings(6, seed=0), "validation": draw_recordings(3, seed=1)}
    write_records(tmp_path / "records", FEATURES, splits)
    arguments = ["--data-dir", str(tmp_path / "records"), "--workdir", str(tmp_path / "run")]
    arguments += ["--model", "cnn_regressor", "--attributes", "arousal", "--width-multiplier", "0.125"]
    # Steps of length 0: the parameters are those that the epoch began with.
    arguments += ["--batch-size", "3", "--epochs", "1", "--adam-learning-rate", "0"]
    arguments += ["--init-from", str(tmp_path / "published")]
    call(train, *arguments)

    said = capsys.readouterr()
    assert f"Starts from {tmp_path / 'published'}: all layers taken over" in said.out
    assert said.err.count("warning: ") == 1 and f"--statistics-from {tmp_path / 'published'}" in said.err
    trained = read_model(tmp_path / "run" / "model")
    for own, other in zip(
        jax.tree.leaves(trained.variables["params"]), jax.tree.leaves(initial.variables["params"]), strict=True
    ):
        np.testing.assert_array_equal(own, other)
    run = json.loads((tmp_path / "run" / "run.json").read_text())
    assert run["init_from_sha256"] == weights_sha256(initial)
    assert run["config"]["init_from"] == trained.origin["training"]["init_from"] == str(tmp_path / "published")

    shutil.rmtree(tmp_path / "published")
    call(train, *arguments, "--resume", "--quiet")
    assert json.loads((tmp_path / "run" / "run.json").read_text())["init_from_sha256"] == run["init_from_sha256"]
