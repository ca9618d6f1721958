"""Features in place of audio: the example of docs/own-features.md as a person types it, and what is refused."""

from __future__ import annotations

import csv
import json
import re
import runpy
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

import emocluster_jax
from emocluster_jax.config import GivenFeatures, ModelConfig
from emocluster_jax.corpora.audio_files import recording_suffixes
from emocluster_jax.errors import InputError, RecordingError
from emocluster_jax.inference.input_recordings import find_recordings
from emocluster_jax.inference.model_directory import read_model
from emocluster_jax.inference.predictor import Predictor
from emocluster_jax.inference.recordings import Recording, Skipped, predict_recordings
from emocluster_jax.interop.export_folder import description
from emocluster_jax.models.registry import NETWORKS, network_of
from emocluster_jax.records.preparation import read_preparation
from emocluster_jax.records.reader import open_data
from launch import evaluate, predict, prepare, report, train
from running import call
from small_models import noise, small_model, write_recording

PROJECT = Path(__file__).resolve().parents[2]
COMMANDS = {"prepare": prepare, "train": train, "evaluate": evaluate, "predict": predict}
FEATURES = GivenFeatures(dimensions=24, frames_per_second=50)


@pytest.fixture(scope="module")
def worked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the page's commands were given in, one after another."""
    folder = tmp_path_factory.mktemp("worked")
    page = (PROJECT / "docs" / "own-features.md").read_text("utf-8")
    (block,) = re.findall(r"^```bash\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for line in block.replace("\\\n", " ").splitlines():
            program, *arguments = shlex.split(line)[1:]
            if program == "-m":
                name, *arguments = arguments
                call(COMMANDS[name.removeprefix("launch.")], *arguments)
            else:
                patch.setattr("sys.argv", [program, *arguments])
                runpy.run_path(str(PROJECT / program), run_name="__main__")
    return folder


def test_the_example_learns_arousal(worked: Path) -> None:
    preparation = read_preparation(worked / "data")
    assert preparation.features == FEATURES
    assert sum(preparation.counts.values()) == 80 and preparation.skipped == ()
    with (worked / "predictions.csv").open(newline="") as file:
        predicted = {row["file"]: row for row in csv.DictReader(file)}
    with (worked / "features" / "manifest.csv").open(newline="") as file:
        truth = {row["file"]: float(row["arousal"]) for row in csv.DictReader(file)}
    assert predicted.keys() == truth.keys()
    frames = np.load(worked / "features" / "0-0.npy")
    assert predicted["0-0.npy"]["end"] == f"0 days 00:00:0{len(frames) / 50:.6f}"
    # A direction of the embeddings tells it: 0.95 here; what is not trained gives a CCC near 0.
    scores = json.loads((worked / "run" / "test.json").read_text())["scores"]
    assert scores["arousal"]["ccc"] > 0.7


def test_records_are_the_normalised_chunks_of_the_frames(worked: Path) -> None:
    train = open_data(worked / "data").read("train")
    assert train.chunks.shape[1:] == (11, 50, 24)
    frames = [np.load(worked / "features" / name) for name in train.ids]
    together = np.concatenate(frames).astype(np.float64)
    for found, recording in zip(train.chunks, frames, strict=True):
        normalized = np.clip((recording - together.mean(axis=0)) / together.std(axis=0), -3, 3)
        step = (len(recording) - 50) // 10
        expected = [normalized[i * step : i * step + 50] for i in range(11)]
        np.testing.assert_allclose(found, expected, atol=2e-3)  # float16 within 3
    np.testing.assert_allclose(train.durations_s, [len(recording) / 50 for recording in frames])


def test_a_model_takes_frames_from_memory_as_from_files(worked: Path) -> None:
    predictor = emocluster_jax.load_model(worked / "run")
    path = worked / "features" / "3-1.npy"
    frames = np.load(path)
    from_memory = predictor(frames, 50)
    (from_file,) = predict_recordings([predictor], [Recording("x", path)])
    # Batches of another size are another program.
    assert from_file.predictions[0].attributes == pytest.approx(from_memory.attributes, abs=1e-4)
    _, second, *_ = predict_recordings([predictor], [Recording("x", path)], window_s=1)
    assert (second.start_s, second.end_s) == (1, 2)
    (segment,) = predict_recordings([predictor], [Recording("x", path, 1.0, 2.0)])
    assert segment.predictions[0].attributes == pytest.approx(second.predictions[0].attributes, abs=1e-4)
    cut = predictor(frames[50:100], 50)
    assert second.predictions[0].attributes == pytest.approx(cut.attributes, abs=1e-4)
    for wrong, rate, reason in (
        (frames, 100, "expected 50"),
        (frames[:, 1:], 50, "of 23"),
        (frames[0], 50, r"shape \(24,\)"),
    ):
        with pytest.raises(RecordingError, match=reason):
            predictor(wrong, rate)


def test_the_report_and_the_export_know_what_the_input_is(worked: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(worked)  # the corpus was given by a relative path
    call(report, "--workdir", "run", "--data-dir", "data", "--quiet")
    page = (worked / "run" / "report.html").read_text("utf-8")
    assert "None of these recordings can be played: features (.npy), and audio is expected" in page
    assert "cannot be drawn" not in page
    chunks: Any = description(read_model(worked / "run" / "model"))["input"]["chunks"]
    assert chunks["shape"] == ["n", 50, 24]
    assert chunks["meaning"].startswith("chunks of given features (24 numbers per frame, 50 frames per second)")


@pytest.mark.parametrize("system", NETWORKS)
@pytest.mark.parametrize("shape", [(75, 769), (1, 1)])
def test_every_system_takes_the_shape(system: Any, shape: tuple[int, int]) -> None:
    network = network_of(ModelConfig(system=system, width_multiplier=0.125))
    chunks = jax.ShapeDtypeStruct((1, 3, *shape), np.float32)
    output, _ = jax.eval_shape(
        lambda chunks: network.init_with_output(
            {"params": KEY, "dropout": KEY, "noise": KEY}, {"audio": chunks}, train=True
        ),
        chunks,
    )
    assert output.attributes.shape == (3, 1)
    if "reconstruction" in output.extras:
        assert output.extras["reconstruction"].shape == (3, *shape)


KEY = jax.random.key(0)


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Six files of features with labels, of which three cannot be used, and a folder of two for the pool."""
    folder = tmp_path / "features"
    (folder / "pool").mkdir(parents=True)
    random = np.random.default_rng(0)
    for name in ("0", "1", "2", "3", "pool/a", "pool/b"):
        np.save(folder / f"{name}.npy", random.normal(size=(60, 24)))
    np.save(folder / "3.npy", random.normal(size=(60, 25)))
    np.save(folder / "4.npy", np.full((60, 24), np.nan))
    write_recording(folder / "5.npy", noise(0.5))
    splits = ("train", "validation", "test")
    rows = [f"{i}.npy,{splits[i % 3]},{i}" for i in range(6)]
    (folder / "manifest.csv").write_text("\n".join(["file,split,arousal", *rows]) + "\n")
    return folder


@pytest.fixture
def prepare_with(corpus: Path, tmp_path: Path) -> Callable[..., None]:
    def run(*options: str) -> None:
        given = [
            "--corpus",
            "manifest",
            "--source",
            str(corpus),
            "--data-dir",
            str(tmp_path / "data"),
            "--workers",
            "1",
        ]
        call(prepare, *given, *options)

    return run


def test_bad_files_are_named_and_other_contents_are_other_data(
    corpus: Path, prepare_with: Callable[..., None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prepare_with("--frame-rate", "50", "--unlabeled", str(corpus / "pool"))
    out = capsys.readouterr().out
    for line in (
        "skipped 1, frames of 25 numbers; expected (frames, 24): 3.npy",
        "skipped 1, NaN or infinite numbers: 4.npy",
        "skipped 1, audio, and features (.npy) are expected: 5.npy",
    ):
        assert line in out
    preparation = read_preparation(tmp_path / "data")
    assert preparation.features == FEATURES
    assert preparation.counts == {"train": 1, "validation": 1, "test": 1, "unlabeled": 2}

    prepare_with("--frame-rate", "50", "--unlabeled", str(corpus / "pool"))
    assert "already" in capsys.readouterr().out
    np.save(corpus / "1.npy", np.zeros((60, 24)))  # of the same size
    with pytest.raises(InputError, match="holds other prepared data"):
        prepare_with("--frame-rate", "50", "--unlabeled", str(corpus / "pool"))


def test_requests_that_do_not_fit_the_files(corpus: Path, prepare_with: Callable[..., None], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="npy files; say by --frame-rate"):
        prepare_with()
    with pytest.raises(InputError, match=r"--frame-rate is 0\.5; expected 1 to 4096"):
        prepare_with("--frame-rate", "0.5")
    for audio in (["--channel", "first"], ["--remove-dc"], ["--strict-audio"]):
        with pytest.raises(InputError, match="leave out --channel, --remove-dc and --strict-audio"):
            prepare_with("--frame-rate", "50", *audio)
    for path in corpus.glob("*.npy"):
        write_recording(path, noise(0.5))
    with pytest.raises(InputError, match=r"none of the 6 recordings .* is a .npy file of frames"):
        prepare_with("--frame-rate", "50")
    for path in corpus.glob("*.npy"):
        np.save(path, np.zeros(768))
    with pytest.raises(InputError, match=r"\.npy, an array of shape \(768,\); expected \(frames, dimensions\)\)"):
        prepare_with("--frame-rate", "50")
    assert [path.name for path in tmp_path.iterdir()] == ["features"]


def test_inputs_of_the_other_kind(corpus: Path) -> None:
    speech, features = write_recording(corpus / "pool" / "speech.wav", noise(0.5)), corpus / "pool" / "a.npy"
    for_audio, for_features = Predictor(small_model()), Predictor(small_model(features=FEATURES))
    assert names(corpus / "pool", for_audio) == ["speech.wav"]
    assert names(corpus / "pool", for_features) == ["a.npy", "b.npy"]
    for predictor, path, reason in (
        (for_audio, features, "features (.npy), and audio is expected"),
        (for_features, speech, "audio, and features (.npy) are expected"),
    ):
        assert list(predict_recordings([predictor], [Recording("x", path)])) == [Skipped("x", reason)]
    with pytest.raises(InputError, match=r"read different things \(a mel spectrogram, given features \(24 numbers"):
        list(predict_recordings([for_audio, for_features], [Recording("x", features)]))


def test_audio_settings_are_refused_and_quality_has_what_is_known(corpus: Path) -> None:
    predictor = Predictor(small_model(features=FEATURES))
    for audio in ({"channel": "first"}, {"remove_dc": False}, {"strict_audio": True}):
        with pytest.raises(InputError, match="leave out `channel`, `remove_dc` and `strict_audio`"):
            emocluster_jax.predict(predictor, corpus / "pool", **audio)
    np.save(corpus / "pool" / "a.npy", np.zeros((40, 24)))
    predictions = emocluster_jax.predict(predictor, corpus / "pool")
    assert predictions.quality["covered"].tolist() == [1, 1]
    assert predictions.quality["padded"].tolist() == [0.2, 0]
    assert np.isnan(predictions.quality["silent_chunks"]).all() and np.isfinite(predictions.attributes["arousal"]).all()


def names(path: Path, predictor: Predictor) -> list[str]:
    """Of the recordings that `--input` finds."""
    return [recording.name for recording in find_recordings([path], recording_suffixes(predictor.features))]
