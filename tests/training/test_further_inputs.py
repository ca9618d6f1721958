"""Training on audio, vectors and frames, of which many recordings have none."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from emocluster_jax.config import OptimizerConfig
from emocluster_jax.console import Console
from emocluster_jax.corpora.inputs import FurtherInput
from emocluster_jax.corpora.labels import VAD, LabelColumns
from emocluster_jax.errors import InputError
from emocluster_jax.evaluation.metrics import ccc
from emocluster_jax.feed.split import AUDIO, ResidentSplit, mask_name, masked, place
from emocluster_jax.inference.forward import network_outputs
from emocluster_jax.inference.model_directory import read_model, weights_sha256
from emocluster_jax.models.registry import network_of
from emocluster_jax.objectives.optimizers import layer_groups
from emocluster_jax.runtime.loops import StoppedError
from emocluster_jax.training.data import TrainingData
from emocluster_jax.training.fine_tuning import start_from
from emocluster_jax.training.input_statistics import input_statistics
from emocluster_jax.training.loop import fit
from emocluster_jax.training.metrics_log import read_metrics
from emocluster_jax.training.steps import create_train_state
from small_training import CONFIG, FEATURES, FURTHER, draw_frames, draw_recordings, draw_vectors, make_data, make_split

WITH_BOTH = CONFIG.replace(inputs=tuple(FURTHER), epochs=2)
QUIET = Console(quiet=True)


@pytest.fixture(scope="module")
def data() -> TrainingData:
    return make_data(further=tuple(FURTHER))


@pytest.fixture(scope="module")
def undisturbed(data: TrainingData, tmp_path_factory: pytest.TempPathFactory) -> Path:
    workdir = tmp_path_factory.mktemp("undisturbed")
    fit(WITH_BOTH, data, workdir, QUIET)
    return workdir


def test_they_are_normalised_by_the_training_split(data: TrainingData, undisturbed: Path) -> None:
    _, labels = draw_recordings(25, seed=6)
    vectors = draw_vectors(labels, seed=6)[::2]
    assert np.isfinite(vectors).all() and len(vectors) == 13
    model = read_model(undisturbed / "model")
    assert model.inputs == tuple(FURTHER.values())
    frames = draw_frames(labels, seed=6).reshape(25, -1, 3)
    frames = frames[np.isfinite(frames).all(axis=(1, 2))].reshape(-1, 3)
    for name, rows in (("text", vectors), ("face", frames)):
        held = model.variables["batch_stats"]["fusion"][f"encoder_{name}"]
        # float32 of what NumPy computes in double precision.
        np.testing.assert_allclose(held["mean"], rows.mean(axis=0, dtype=np.float64), rtol=1e-6)
        np.testing.assert_allclose(held["std"], rows.std(axis=0, dtype=np.float64), rtol=1e-6)


def test_a_stopped_run_goes_on_to_the_bit(data: TrainingData, undisturbed: Path, tmp_path: Path) -> None:
    def stop() -> bool:
        return bool(list((tmp_path / "checkpoints").glob("epoch-000000-stage-2-step-00000[2-9]")))

    with pytest.raises(StoppedError):
        # Shorter than a step: there is a checkpoint after each.
        fit(WITH_BOTH.replace(checkpoint_minutes=1e-6), data, tmp_path, QUIET, stop)
    fit(WITH_BOTH, data, tmp_path, QUIET)
    found, expected = (read_metrics(run / "metrics.jsonl") for run in (tmp_path, undisturbed))
    for ours, theirs in zip(found, expected, strict=True):
        assert {**ours, "seconds": None} == {**theirs, "seconds": None}
    digests = [weights_sha256(read_model(run / "model")) for run in (tmp_path, undisturbed)]
    assert digests[0] == digests[1]


def test_a_regressor_reads_it_too_and_averages_keep_the_statistics(data: TrainingData, tmp_path: Path) -> None:
    config = WITH_BOTH.for_system("cnn_regressor").replace(epochs=1, average_decay=0.9)
    fit(config, data, tmp_path, QUIET)
    (epoch,) = read_metrics(tmp_path / "metrics.jsonl")
    assert np.isfinite(epoch["ccc_loss"])
    held = read_model(tmp_path / "model").variables["batch_stats"]["fusion"]["encoder_text"]
    ((mean, std),) = input_statistics(make_split(25, seed=6, further=("text",)), ["text"], "train").values()
    # An average of equal numbers, up to the rounding of float32.
    np.testing.assert_allclose(held["mean"], mean, rtol=1e-5)
    np.testing.assert_allclose(held["std"], std, rtol=1e-5)


def test_many_recordings_and_a_number_that_never_varies() -> None:
    split = make_split(150, seed=3, further=("text",))  # more than a block of them, and no multiple of it
    text = np.array(split.inputs["text"])
    text[..., 5] = np.where(split.inputs["text_present"], 7.0, 0.0)
    split = dataclasses.replace(split, inputs={**split.inputs, "text": text})
    ((name, (mean, std)),) = input_statistics(split, ["text"], "train").items()
    vectors = draw_vectors(draw_recordings(150, seed=3)[1], seed=3)[::2].astype(np.float64)
    assert name == "text" and mean[5] == 7 and std[5] == 1
    np.testing.assert_allclose(mean[:5], vectors[:, :5].mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(std[:5], vectors[:, :5].std(axis=0), rtol=1e-6)


def test_a_model_that_learned_with_hidden_inputs_predicts_from_the_sound_alone(tmp_path: Path) -> None:
    """The sound tells something of the label, the text nearly all: a model that always has it hears little."""
    chunks, labels = draw_recordings(80, seed=9)
    noise = np.random.default_rng(9).normal(0, 0.7, (80, 1, 1, 1))
    text = np.column_stack([labels[:, 0], np.random.default_rng(1).normal(size=(80, 3))]).astype(np.float32)
    arrays = {AUDIO: (0.5 * (chunks + noise)).astype(np.float16), **masked({"text": text})}

    def split(rows: slice) -> ResidentSplit:
        own = {name: values[rows] for name, values in arrays.items()}
        return place(own, LabelColumns(VAD, labels[rows]), len(labels[rows]))

    data = dataclasses.replace(make_data(), train=split(slice(60)), validation=split(slice(60, 80)), unlabeled=None)
    data = dataclasses.replace(data, inputs=(FurtherInput("text", 4),))
    config = WITH_BOTH.for_system("cnn_regressor").replace(
        inputs=("text",), attributes=("arousal",), dropout_rate=0.0, epochs=12
    )
    heard = {name: rows[60:].astype(np.float32) for name, rows in arrays.items()}
    heard |= {"text": 0 * heard["text"], mask_name("text"): 0 * heard[mask_name("text")]}
    scores, both = {}, {}
    for rate in (0.0, 0.5):
        workdir = tmp_path / f"{rate}"
        fit(config.replace(input_dropout=rate), data, workdir, QUIET)
        model = read_model(workdir / "model")
        output = network_outputs(model.config, *jax.tree.map(jnp.asarray, (model.variables, heard)))
        predicted = np.asarray(output.attributes).reshape(20, -1).mean(axis=1)
        scores[rate] = float(ccc(labels[60:, 0], predicted * model.label_std[0] + model.label_mean[0]))
        both[rate] = read_metrics(workdir / "metrics.jsonl")[-1]["validation_ccc_mean"]
    assert min(both.values()) > 0.8
    assert scores[0.5] > scores[0.0] + 0.1


def test_inputs_that_cannot_be_read_are_refused(data: TrainingData, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"`inputs` names face; the data has none beside the audio; prepare"):
        fit(WITH_BOTH, make_data(), tmp_path, QUIET)
    assert data.train is not None
    inputs = data.train.inputs
    nothing = {**inputs, "text": 0 * inputs["text"], "text_present": 0 * inputs["text_present"]}
    without = dataclasses.replace(data, train=dataclasses.replace(data.train, inputs=nothing))
    with pytest.raises(InputError, match="no recording of the train split has the input text; leave it out of"):
        fit(WITH_BOTH, without, tmp_path, QUIET)
    with pytest.raises(InputError, match="`inputs` is given, but `system=ladder` does not use it; it belongs to emo"):
        WITH_BOTH.replace(system="ladder", dropout_rate=0.5)
    for names, message in (
        (("audio",), "`inputs`: 'audio' cannot be the name of an input; use small letters"),
        (("text", "text"), "`inputs` names the input text twice"),
    ):
        with pytest.raises(InputError, match=message):
            WITH_BOTH.replace(inputs=names)
    with pytest.raises(InputError, match="`input_dropout` hides inputs, and there is the audio alone; name others by"):
        CONFIG.replace(input_dropout=0.5)
    assert WITH_BOTH.replace(inputs=("text", "face")).model.inputs == ("face", "text")


def test_layers_of_the_fusion_learn_with_the_shared_layer() -> None:
    further = tuple(FURTHER.values())
    state = create_train_state(network_of(WITH_BOTH.model), FEATURES, {}, jax.random.key(0, impl="rbg"), further)
    for layers, expected in (("all", "encoder"), ("shared", "encoder"), ("heads", "frozen")):
        config = OptimizerConfig(train_layers=layers)
        groups = layer_groups(state.params, config, encoder="encoder", freeze_regressor=False)
        of_frames = groups["fusion"].pop("encoder_face")["encoder"]
        assert set(jax.tree.leaves(groups["fusion"])) == set(jax.tree.leaves(of_frames.pop("shared"))) == {expected}
        assert set(jax.tree.leaves(of_frames)) == {"encoder" if layers == "all" else "frozen"}


def test_fine_tuning_keeps_the_statistics_of_its_model(undisturbed: Path) -> None:
    model = read_model(undisturbed / "model")
    further = tuple(FURTHER.values())
    fresh = create_train_state(network_of(WITH_BOTH.model), FEATURES, {}, jax.random.key(1, impl="rbg"), further)
    started, drawn = start_from(fresh, model, WITH_BOTH.model)
    assert drawn == ()
    for ours, theirs in zip(jax.tree.leaves(started.variables), jax.tree.leaves(model.variables), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    for name in FURTHER:
        assert started.batch_stats["fusion"][f"encoder_{name}"]["mean"].mean() > 30
