"""A manifest with vectors for half of its recordings: prepared, trained on, evaluated and predicted with."""

from __future__ import annotations

import csv
import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import soundfile

import emocluster_jax
from emocluster_jax import Console, InputError, RecordingError
from emocluster_jax.api.training import TrainingRun
from emocluster_jax.corpora.inputs import FurtherInput
from emocluster_jax.evaluation.cluster_information import cluster_information
from emocluster_jax.evaluation.metrics import score_sentences, sentence_attributes
from emocluster_jax.evaluation.run_results import TEST_SCORES, read_run_scores, scores_as_json
from emocluster_jax.feed.from_records import load_split
from emocluster_jax.inference.forward import network_outputs
from emocluster_jax.inference.model_directory import read_model
from emocluster_jax.interop.export_folder import check_request
from emocluster_jax.models.network import Output
from emocluster_jax.records.reader import open_data
from emocluster_jax.reporting.html.run_files import read_run_files
from emocluster_jax.reporting.html.run_page import Extent, run_page
from emocluster_jax.training.workdir import read_run
from launch import calibrate, evaluate, predict, train
from launch.options import invocation
from running import call
from small_models import noise, write_recording
from small_training import regressor_of

LENGTH = 4
QUIET = Console(quiet=True)
CONFIG = regressor_of(("text",), epochs=6)


@dataclass(frozen=True)
class Worked:
    folder: Path
    run: TrainingRun

    @property
    def corpus(self) -> Path:
        return self.folder / "corpus"

    @property
    def table(self) -> Path:
        return self.corpus / "manifest.csv"

    @property
    def data(self) -> Path:
        return self.folder / "data"


def write_corpus(folder: Path) -> None:
    """Noise of a second, which tells nothing of the label; the vectors do.

    The odd training recordings have none, nor has the first one of the test split; that of recording 6 is NaN.
    """
    (folder / "text").mkdir(parents=True)
    random = np.random.default_rng(0)
    with (folder / "manifest.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["file", "split", "arousal", "input:text"])
        for i in range(40):
            write_recording(folder / f"{i:02d}.wav", noise(1.0, seed=i))
            split = "train" if i < 24 else "validation" if i < 32 else "test"
            label = random.uniform(1, 7)
            vector = np.array([label + 96, 1, 0, np.nan if i == 6 else 4 - label])
            np.save(folder / "text" / f"{i}.npy", vector)
            missing = i % 2 == 1 if i < 24 else i == 32
            rows.writerow([f"{i:02d}.wav", split, f"{label:.3f}", "" if missing else f"text/{i}.npy"])


@pytest.fixture(scope="module")
def worked(tmp_path_factory: pytest.TempPathFactory) -> Worked:
    folder = tmp_path_factory.mktemp("worked")
    write_corpus(folder / "corpus")
    data = folder / "data"
    preparation = emocluster_jax.prepare("manifest", folder / "corpus", data, mel_bands=16, workers=1, console=QUIET)
    assert preparation.inputs == (FurtherInput("text", LENGTH),)
    assert [(s.id, s.reason) for s in preparation.skipped] == [("06.wav", "input text: NaN or infinite numbers")]
    return Worked(folder, emocluster_jax.fit(data, folder / "run", CONFIG, feed="streamed", console=QUIET))


def test_the_text_tells_what_the_sound_does_not(worked: Worked) -> None:
    test = worked.run.test
    assert test is not None
    truth, predictions = test.truth[1:, 0], test.predictions[1:, 0]  # the first one has no text
    assert np.corrcoef(truth, predictions)[0, 1] > 0.8


def test_evaluation_and_prediction_give_what_training_tested(
    worked: Worked, capsys: pytest.CaptureFixture[str]
) -> None:
    run = worked.run
    assert run.test is not None
    evaluation = emocluster_jax.evaluate(run.model, worked.data, "test", feed="resident", console=QUIET)
    np.testing.assert_array_equal(evaluation.predictions, run.test.predictions)
    predictions = emocluster_jax.predict(run.model, worked.table, console=QUIET)
    # Twelve training recordings and one of the test split.
    assert "the input text is missing for 13 of 40 recordings" in " ".join(capsys.readouterr().err.split())
    predicted = dict(zip(predictions.files, predictions.attributes["arousal"], strict=True))
    for id, (expected,) in zip(evaluation.describe().ids, evaluation.predictions, strict=True):
        np.testing.assert_allclose(predicted[id], expected, rtol=5e-3)  # chunks are stored as float16
    assert [(s.file, s.reason) for s in predictions.skipped] == [("06.wav", "input text: NaN or infinite numbers")]


def test_one_recording_and_its_vector(worked: Worked) -> None:
    predictor, (signal, rate) = emocluster_jax.load_model(worked.run.model), soundfile.read(worked.corpus / "32.wav")
    assert repr(predictor).endswith("cnn_regressor, reads a mel spectrogram, text")
    low, high = (
        predictor(signal, rate, {"text": np.array([label + 96.0, 1, 0, 4 - label])}).attributes["arousal"]
        for label in (2, 6)
    )
    assert high - low > 1
    evaluation = worked.run.test
    assert evaluation is not None and evaluation.describe().ids[0] == "32.wav"
    without = predictor(signal, rate, {"text": None}).attributes["arousal"]
    np.testing.assert_allclose(without, evaluation.predictions[0, 0], rtol=5e-3)  # chunks are stored as float16
    with pytest.raises(RecordingError, match=r"input text: an array of shape \(3,\); expected \(4,\)"):
        predictor(signal, rate, {"text": np.ones(3)})
    for given in ({}, {"text": None, "face": None}):
        with pytest.raises(InputError, match="reads text besides audio"):
            predictor(signal, rate, given)


def outputs_alone(run: TrainingRun, data_dir: Path, split: str) -> dict[str, Output]:
    """By hand, by input: what is hidden is zeros, and its mask says so."""
    model = read_model(run.model)
    arrays = load_split(open_data(data_dir), split, QUIET, inputs=model.inputs).inputs
    given = {name: jnp.asarray(np.asarray(rows)[0], jnp.float32) for name, rows in arrays.items()}
    hidden = jnp.zeros(len(given["text"]))
    by_hand = {
        "audio": {**given, "text": 0 * given["text"], "text_present": hidden},
        "text": {**given, "audio_present": hidden},
    }
    variables = jax.tree.map(jnp.asarray, model.variables)
    return {name: network_outputs(model.config, variables, inputs) for name, inputs in by_hand.items()}


def test_scores_of_each_input_alone(worked: Worked, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = worked.run
    assert run.test is not None
    model, features = read_model(run.model), run.preparation.features
    for name, output in outputs_alone(run, worked.data, "test").items():
        of_chunks = np.asarray(output.attributes).reshape(-1, features.chunks_per_utterance, 1)
        rows = slice(1 if name == "text" else 0, None)  # the first one has no text
        predictions = sentence_attributes(of_chunks, model.label_mean, model.label_std)[rows]
        expected = score_sentences(run.test.truth[rows], predictions, ("arousal",))["arousal"]
        found = run.test.alone["arousal"][name]
        assert found.n == expected.n == len(predictions)
        # Sums in another order.
        assert (found.ccc, found.rmse) == pytest.approx((expected.ccc, expected.rmse), abs=1e-5)
    assert run.test.alone["arousal"]["text"].ccc > run.test.alone["arousal"]["audio"].ccc + 0.3

    kept = read_run_scores(run.workdir / TEST_SCORES, read_run(run.workdir).id)
    assert kept.scores == run.test.scores and kept.alone == run.test.alone
    # Streamed and resident splits give the same.
    output = tmp_path / "scores.json"
    call(evaluate, "--checkpoint", str(run.model), "--data-dir", str(worked.data), "--output", str(output))
    told = capsys.readouterr()
    assert "arousal, audio alone" in told.out and "arousal, text alone" in told.out
    scores = json.loads(output.read_text())
    assert json.loads(told.out.splitlines()[-1]) == scores == scores_as_json(kept.scores, kept.alone)
    assert set(scores["arousal"]) == {"ccc", "pearson", "rmse", "n", "not_finite", "alone"}
    assert read_run_files(run.workdir).alone == kept.alone
    assert "arousal, text alone" in repr(run)


def test_what_the_clusters_know_by_each_input_alone(worked: Worked, capsys: pytest.CaptureFixture[str]) -> None:
    config = CONFIG.for_system("emocluster").replace(clusters=3, epochs=4)
    run = emocluster_jax.fit(worked.data, worked.folder / "clustered", config, feed="streamed", console=QUIET)
    known, model, train_split = run.clusters, read_model(run.model), open_data(worked.data).describe("train")
    assert known is not None and model.centroids is not None and set(known.alone) == {"audio", "text"}
    assert not worked.run.clusters  # without clusters there is nothing to know
    has_text = np.array([int(id[:2]) % 2 == 0 for id in train_split.ids])
    for name, output in outputs_alone(run, worked.data, "train").items():
        rows = np.flatnonzero(has_text) if name == "text" else np.arange(len(has_text))
        clustered = model.clustered(np.asarray(output.embeddings))
        nearest = np.square(clustered[:, None] - model.centroids).sum(axis=2).argmin(axis=1)
        of_rows = nearest.reshape(len(has_text), -1)[rows].ravel()
        nobody = [""] * len(rows)
        assert known.alone[name] == cluster_information(of_rows, train_split.labels.rows(rows), nobody, nobody)
    text, audio = (known.alone[name].attributes["arousal"] for name in ("text", "audio"))
    assert text.sentences == has_text.sum() == 11 and audio.sentences == 23
    assert text.ami_of_sentences > audio.ami_of_sentences + 0.2 and text.p_value < 0.05

    kept = read_run_files(run.workdir)
    assert kept.information == known
    page = run_page(kept, None, Extent(10, 1, 1.0))
    train._summarize(run, worked.data, config, Console())
    told = capsys.readouterr().out
    for name in ("arousal, audio alone", "arousal, text alone"):
        assert page.count(f'<th scope="row">{name}</th>') == 3 and told.count(name) == 2  # scores, too


def test_vectors_in_a_folder(worked: Worked, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recordings, sentences = tmp_path / "recordings", tmp_path / "sentences"
    for i in range(33, 37):
        (recordings / "sub").mkdir(parents=True, exist_ok=True)
        (sentences / "sub").mkdir(parents=True, exist_ok=True)
        name = f"sub/{i}" if i % 2 else f"{i}.a"
        shutil.copy(worked.corpus / f"{i}.wav", recordings / f"{name}.wav")
        if i > 33:
            shutil.copy(worked.corpus / "text" / f"{i}.npy", sentences / f"{name}.npy")
    output, model = tmp_path / "predictions.csv", str(worked.run.model)
    given = ["--checkpoint", model, "--input", str(recordings), "--output", str(output)]
    call(predict, *given, "--inputs", f"text={sentences}")
    told = " ".join(capsys.readouterr().err.split())
    assert "the input text is missing for 1 of 4 recordings: their predictions do without" in told
    with output.open(newline="") as file:
        found = {row["file"]: float(row["arousal"]) for row in csv.DictReader(file)}
    by_table = emocluster_jax.predict(model, worked.table, console=QUIET)
    expected = dict(zip(by_table.files, by_table.attributes["arousal"], strict=True))
    for name, value in found.items():
        if name != "sub/33.wav":
            # The table has as many digits as float32; batches of other recordings are the same program.
            assert value == pytest.approx(expected[f"{Path(name).name[:2]}.wav"], abs=1e-5)
    assert abs(found["sub/33.wav"] - expected["33.wav"]) > 1e-3
    predictions = emocluster_jax.predict(model, recordings, inputs={"text": sentences}, console=QUIET)
    np.testing.assert_allclose(predictions.attributes["arousal"], list(found.values()), atol=1e-5)

    for words, message in (
        (["text"], "--inputs text is not NAME=FOLDER; give one for each input: text=sentences"),
        ([f"Text={sentences}"], "--inputs: 'Text' cannot be the name of an input"),
        ([f"text={sentences}", "text=other"], "--inputs names the input text twice"),
        ([f"face={sentences}"], "--inputs gives face, and the models read text besides audio; leave it out"),
        (["text=nowhere"], "--inputs: nowhere is not a folder; give the one that holds a .npy file of the input text"),
        ([f"text={worked.corpus}"], "--inputs: .*corpus has a file for none of the 4 recordings .first: .*34.a.npy.; "),
    ):
        with pytest.raises(InputError, match=message):
            call(predict, *given, "--inputs", *words)


def test_calibration_says_how_to_predict_with_the_vectors(
    worked: Worked, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = str(tmp_path / "calibrated")
    call(calibrate, "--checkpoint", str(worked.run.model), "--data-dir", str(worked.data), "--output", output)
    printed = capsys.readouterr().out.splitlines()
    given = ["--input", "recordings", "--inputs", "text=FOLDER", "--output", "predictions.csv"]
    assert printed[-1] == f"  {invocation('predict', '--checkpoint', output, *given)}"


def test_what_cannot_be_done_without_the_vectors(worked: Worked, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="`formats=onnx` cannot hold a model that reads text besides audio"):
        check_request(tmp_path / "exported", ["onnx"], read_model(worked.run.model))
    table = tmp_path / "manifest.csv"
    table.write_text("\n".join(line.rpartition(",")[0] for line in worked.table.read_text().splitlines()))
    alone, given = tmp_path / "alone", {"mel_bands": 16, "workers": 1, "statistics_from": worked.data}
    emocluster_jax.prepare("manifest", worked.corpus, alone, corpus_options={"manifest": table}, console=QUIET, **given)
    with pytest.raises(InputError, match=r"`inputs` names text; .*alone has none beside the audio; prepare recordings"):
        emocluster_jax.fit(alone, tmp_path / "other", CONFIG, console=QUIET)
    with pytest.raises(
        InputError, match=r"alone does not have all inputs that the model reads: text \(a vector of 4 numbers\); "
    ):
        emocluster_jax.evaluate(worked.run.model, alone, "test", console=QUIET)
    with pytest.raises(InputError, match="reads text beside the audio, and this run nothing; give the same `inputs`"):
        tuned = CONFIG.replace(inputs=(), init_from=str(worked.run.model))
        emocluster_jax.fit(worked.data, tmp_path / "tuned", tuned, console=QUIET)


def test_the_option(worked: Worked) -> None:
    options = train.parse(["--data-dir", "data", "--workdir", "run", "--inputs", "text", "face"])
    assert options.config.model.inputs == ("face", "text")
