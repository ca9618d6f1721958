"""A manifest with frames that run along the sound: prepared, trained on, evaluated and predicted with."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import soundfile

import emocluster_jax
from emocluster_jax import Console, InputError, RecordingError
from emocluster_jax.api.training import TrainingRun
from emocluster_jax.corpora.inputs import FurtherInput
from emocluster_jax.preprocessing.chunks import chunk_step
from emocluster_jax.records.preparation import Preparation, read_preparation
from emocluster_jax.records.reader import open_data
from launch import prepare
from running import call
from small_models import noise, write_recording
from small_training import regressor_of

RATE = 25.0
FACE = FurtherInput("face", 3, RATE)
QUIET = Console(quiet=True)
CONFIG = regressor_of(("face",), epochs=10)


@dataclass(frozen=True)
class Worked:
    folder: Path
    preparation: Preparation
    run: TrainingRun

    @property
    def table(self) -> Path:
        return self.folder / "corpus" / "manifest.csv"


def face(label: float, seconds: float) -> np.ndarray:
    """Frames of the label, of the time at which they begin, and of 1."""
    times = np.arange(round(seconds * RATE)) / RATE
    return np.stack([np.full_like(times, 50 + 10 * label), times, np.ones_like(times)], axis=1)


def write_corpus(folder: Path) -> None:
    """The same noise everywhere, which tells nothing of the label; the frames do.

    Files of 2.6 s hold two recordings, one after the other, with frames that run through; a third of the files has
    none. The frames of file 3 are twice as many as its sound lasts, at their rate.
    """
    (folder / "face").mkdir(parents=True)
    random = np.random.default_rng(0)
    with (folder / "manifest.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["file", "start", "end", "split", "arousal", "input:face", "input:text"])
        np.save(folder / "text.npy", np.ones(2))
        for i in range(20):
            write_recording(folder / f"{i:02d}.wav", noise(2.6))
            first, second = random.uniform(1, 7, 2)
            frames = np.concatenate([face(first, 1.2), face(second, 1.4)])
            frames[:, 1] = np.arange(len(frames)) / RATE
            np.save(folder / "face" / f"{i}.npy", np.repeat(frames, 2, axis=0) if i == 3 else frames)
            split = "train" if i < 12 else "validation" if i < 16 else "test"
            for start_s, end_s, label in ((0, 1.2, first), (1.2, 2.6, second)):
                named = "" if i % 3 == 2 else f"face/{i}.npy"
                rows.writerow([f"{i:02d}.wav", start_s, end_s, split, f"{label:.3f}", named, "text.npy"])


@pytest.fixture(scope="module")
def worked(tmp_path_factory: pytest.TempPathFactory) -> Worked:
    folder = tmp_path_factory.mktemp("worked")
    write_corpus(folder / "corpus")
    given = ["--corpus", "manifest", "--source", str(folder / "corpus"), "--data-dir", str(folder / "data")]
    call(prepare, *given, "--inputs", "mel", "face", "--input-rate", "face=25", "--mel-bands", "16", "--workers", "1")
    run = emocluster_jax.fit(folder / "data", folder / "run", CONFIG, feed="streamed", console=QUIET)
    return Worked(folder, read_preparation(folder / "data"), run)


def test_the_records_hold_the_frames_of_each_segment(worked: Worked) -> None:
    preparation = worked.preparation
    assert preparation.inputs == (FACE,)  # and not the text
    reason = "input face: at 25 frames per second it does not last as long as the sound"
    assert {(s.id[:6], s.reason) for s in preparation.skipped} == {("03.wav", reason)}
    features = preparation.features
    arrays = open_data(worked.folder / "data").read("train", inputs=(FACE,))
    assert arrays.inputs["face"].shape[1:] == FACE.shape(features) == (11, 25, 3)
    for id, held in zip(arrays.ids, arrays.inputs["face"], strict=True):
        number, start_s = int(id[:2]), 0.0 if "#0" in id else 1.2
        if number % 3 == 2:
            assert np.isnan(held).all()
            continue
        # One label throughout: none of the frames is of the file's other recording.
        assert np.ptp(held[..., 0]) == 0 and (held[..., 2] == 1).all()
        step = chunk_step(round((1.2 if start_s == 0 else 1.4) * 16_000), features)
        expected = start_s + np.arange(11) * step / features.frames_per_second
        assert np.abs(held[:, 0, 1] - expected).max() <= 0.5 / RATE + 1e-6


def test_the_frames_tell_what_the_sound_does_not(worked: Worked) -> None:
    test = worked.run.test
    assert test is not None
    has = np.array([int(id[:2]) % 3 != 2 for id in test.describe().ids])
    assert np.corrcoef(test.truth[has, 0], test.predictions[has, 0])[0, 1] > 0.8
    alone = test.alone["arousal"]
    assert alone["face"].n == has.sum() < alone["audio"].n and alone["face"].ccc > alone["audio"].ccc + 0.3


def test_evaluation_and_prediction_give_what_training_tested(worked: Worked) -> None:
    test = worked.run.test
    assert test is not None
    evaluation = emocluster_jax.evaluate(worked.run.model, worked.folder / "data", feed="resident", console=QUIET)
    np.testing.assert_array_equal(evaluation.predictions, test.predictions)
    found = emocluster_jax.predict(worked.run.model, worked.table, console=QUIET)
    predicted = {
        (file, round(start, 1)): value
        for file, start, value in zip(found.files, found.starts_s.tolist(), found.attributes["arousal"], strict=True)
    }
    for id, (expected,) in zip(evaluation.describe().ids, evaluation.predictions, strict=True):
        start_s = 0.0 if "#0" in id else 1.2
        np.testing.assert_allclose(predicted[id[:6], start_s], expected, rtol=5e-3)  # chunks are stored as float16
    assert {s.reason for s in found.skipped} == {s.reason for s in worked.preparation.skipped}
    # Windows take their parts of the frames; the file's two halves have other labels.
    by_windows = emocluster_jax.predict(
        worked.run.model, worked.table.parent / "12.wav", inputs={"face": _named(worked)}, window_s=1.3, console=QUIET
    )
    labels = {row["file"] + row["start"]: float(row["arousal"]) for row in csv.DictReader(worked.table.open())}
    ours, theirs = by_windows.attributes["arousal"], (labels["12.wav0"], labels["12.wav1.2"])
    assert (ours[0] - ours[1]) * (theirs[0] - theirs[1]) > 0


def _named(worked: Worked) -> Path:
    """A folder of frames that are called as the recordings are."""
    folder = worked.folder / "faces"
    folder.mkdir(exist_ok=True)
    np.save(folder / "12.npy", np.load(worked.table.parent / "face" / "12.npy"))
    return folder


def test_one_recording_and_its_frames(worked: Worked) -> None:
    predictor = emocluster_jax.load_model(worked.run.model)
    signal, rate = soundfile.read(worked.table.parent / "13.wav")
    low, high = (predictor(signal, rate, {"face": face(label, 2.6)}).attributes["arousal"] for label in (2, 6))
    assert high - low > 1
    assert np.isfinite(predictor(signal, rate, {"face": None}).attributes["arousal"])
    with pytest.raises(RecordingError, match=r"input face: frames of 2 numbers; expected \(frames, 3\)"):
        predictor(signal, rate, {"face": np.ones((65, 2))})
    with pytest.raises(RecordingError, match="input face: at 25 frames per second it does not last as long as the"):
        predictor(signal, rate, {"face": np.ones((130, 3))})


def test_what_cannot_be_prepared(worked: Worked, tmp_path: Path) -> None:
    given = ["--corpus", "manifest", "--source", str(worked.folder / "corpus"), "--data-dir", str(tmp_path / "data")]
    unknown = "voice, and no recording has it; besides audio they have face"
    for words, message in (
        (["--inputs", "mel", "voice"], f"--inputs names {unknown}, text; give its files in a column input:NAME"),
        (
            ["--inputs", "text", "--input-rate", "face=25"],
            "--input-rate names face, which --inputs leaves out; name it",
        ),
        (["--input-rate", "voice=25"], f"--input-rate names {unknown}, text"),
        (["--input-rate", "face"], "--input-rate face is not NAME=HZ; give one for each input: face=25"),
        (["--input-rate", "face=fast"], "--input-rate face=fast has no number of frames per second; give one: face=25"),
        (["--input-rate", "face=0"], "--input-rate of face is 0.0; expected 1 to 4096"),
        (
            ["--inputs", "face"],
            r"none of the 28 files of the input face is a .npy file of one vector, \(numbers,\) \(first: .*0.npy, an "
            r"array of shape \(65, 3\)\); check their paths, and what they hold, or give the rate of frames by --input",
        ),
        (
            ["--inputs", "text", "--input-rate", "text=25"],
            r"none of the 40 files of the input text is a .npy file of frames, \(frames, numbers\)",
        ),
    ):
        with pytest.raises(InputError, match=message):
            call(prepare, *given, *words)
