"""A calibrated model, by the command and from Python: what it predicts, what it says of itself, and what is refused.

The corpus is rated from -1 to 1, and the model predicts about 3 to 4: arousal rises with its prediction, valence falls
with it, and dominance has no labels.
"""

from __future__ import annotations

import dataclasses
import json
import re
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import emocluster_jax
from emocluster_jax.console import Console
from emocluster_jax.errors import InputError
from emocluster_jax.evaluation.calibration import calibrations
from emocluster_jax.inference.model_directory import SavedModel, read_model, save_model
from emocluster_jax.inference.predictor import Predictor
from emocluster_jax.records.reader import open_data
from launch import calibrate, evaluate
from running import call
from small_models import small_model
from small_records import write_records
from small_training import FEATURES, draw_recordings

QUIET = Console(quiet=True)
NAMES = ("arousal", "valence", "dominance")
SIZES = {"train": 25, "validation": 6, "test": 12}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model `model` and the records `data`."""
    folder = tmp_path_factory.mktemp("calibration")
    zeros, ones = np.zeros(FEATURES.mel_bands, np.float32), np.ones(FEATURES.mel_bands, np.float32)
    model = small_model(NAMES, features=FEATURES, feature_mean=zeros, feature_std=ones)
    save_model(folder / "model", model)
    rng, splits = np.random.default_rng(0), {}
    for seed, (split, size) in enumerate(SIZES.items()):
        chunks, _ = draw_recordings(size, seed)
        arousal, valence, _ = predicted(model, chunks).T
        labels = np.full((size, 3), np.nan, np.float32)  # arousal, dominance, valence
        noise = rng.normal(0, 0.5, (2, size))
        labels[:, 0] = 0.2 * (standardised(arousal) + noise[0])
        labels[:, 2] = -0.3 * (standardised(valence) + noise[1])
        labels[::3, 2] = np.nan
        splits[split] = chunks, labels
    write_records(folder / "data", FEATURES, splits)
    return folder


def predicted(model: SavedModel, chunks: np.ndarray) -> np.ndarray:
    flat = chunks.reshape(-1, *chunks.shape[2:]).astype(np.float32)
    return np.array([np.asarray(prediction) for prediction in Predictor(model).predict_chunks(flat)])


def standardised(values: np.ndarray) -> np.ndarray:
    return (values - values.mean()) / values.std()


def statistics(model: Path) -> np.ndarray:
    return np.stack([read_model(model).label_mean, read_model(model).label_std])


def test_calibrated_by_the_command(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "calibrated"
    call(evaluate, "--checkpoint", str(folder / "model"), "--data-dir", str(folder / "data"), "--split", "train")
    printed = capsys.readouterr().out.splitlines()
    scores = json.loads(printed[-1])
    most = scores["arousal"]["pearson"]
    assert most > 0.5 > 0.1 > scores["arousal"]["ccc"] and scores["valence"]["pearson"] < -0.5
    assert printed[-3] == (
        "Calibration, which matches mean and deviation of predictions and labels, could raise the CCC here to at most "
        f"Pearson's r: {most:.3f} for arousal. To calibrate the model:"
    )
    command = shlex.split(printed[-2])
    assert command[:3] == ["python", "-m", "launch.calibrate"] and command[-1] == f"{folder / 'model'}-calibrated"

    call(calibrate, *command[3:-1], str(output))
    told = capsys.readouterr()
    assert re.search(rf"arousal +{scores['arousal']['ccc']:z.3f} +{most:.3f} .* 25$", told.out, re.MULTILINE)
    assert f"  python -m launch.predict --checkpoint {output} " in told.out
    warnings = [line for line in told.err.splitlines() if line.startswith("warning: ")]
    assert warnings == [
        "warning: 16 recordings have a label of valence: with fewer than 20 its scale is uncertain",
        "warning: predictions of valence fall where its labels rise (Pearson r "
        f"{scores['valence']['pearson']:.3f}): calibrated, they have the labels' mean and deviation, and are of no "
        "more use than before",
        "warning: dominance is not calibrated: 0 recordings have a label of dominance and a finite prediction, and "
        "calibration needs 5 at least; give more recordings with that label",
    ]

    call(evaluate, "--checkpoint", str(output), "--data-dir", str(folder / "data"), "--split", "train")
    told = capsys.readouterr()
    after = json.loads(told.out.splitlines()[-1])
    # Label statistics are float32, which rounds predictions about 0 by some 1e-8, in deviations of 0.2.
    assert after["arousal"]["ccc"] == pytest.approx(most, abs=1e-6)
    assert after["valence"]["ccc"] == pytest.approx(scores["valence"]["pearson"], abs=1e-6)
    assert "To calibrate" not in told.out and "was calibrated on this split: its scores here are better" in told.err


def test_other_programs_predict_as_the_evaluation_does(folder: Path, tmp_path: Path) -> None:
    emocluster_jax.calibrate(folder / "model", folder / "data", tmp_path / "calibrated", console=QUIET)
    train = open_data(folder / "data").read("train")
    labels = train.labels.of(NAMES)
    before, after = (predicted(read_model(path), train.chunks) for path in (folder / "model", tmp_path / "calibrated"))
    for i in range(2):
        known = np.isfinite(labels[:, i])
        np.testing.assert_allclose(after[known, i].mean(), labels[known, i].mean(), atol=1e-5)
        np.testing.assert_allclose(after[known, i].std(), labels[known, i].std(), rtol=1e-4)
        assert np.corrcoef(before[:, i], after[:, i])[0, 1] > 0.999  # the scale is positive
    np.testing.assert_array_equal(after[:, 2], before[:, 2])


def test_so_many_recordings_drawn_with_a_seed(folder: Path, tmp_path: Path) -> None:
    def draw(name: str, **settings: Any) -> np.ndarray:
        found = emocluster_jax.calibrate(folder / "model", folder / "data", tmp_path / name, console=QUIET, **settings)
        assert repr(found).splitlines()[-3].split()[0] == "arousal"
        return statistics(found.model)

    first = draw("first", recordings=12, seed=3)
    np.testing.assert_array_equal(first, draw("again", recordings=12, seed=3))
    assert (first != draw("other", recordings=12, seed=4))[:, 0].all()
    np.testing.assert_array_equal(draw("all", recordings=25, seed=9), draw("plain"))
    assert calibrations(read_model(tmp_path / "first"))["arousal"].seed == 3


def test_a_calibrated_model_calibrated_anew_is_that_of_the_model(folder: Path, tmp_path: Path) -> None:
    for source, name, recordings in (
        (folder / "model", "first", 15),
        (tmp_path / "first", "second", None),
        (folder / "model", "direct", None),
    ):
        emocluster_jax.calibrate(source, folder / "data", tmp_path / name, recordings=recordings, console=QUIET)
    np.testing.assert_allclose(statistics(tmp_path / "second"), statistics(tmp_path / "direct"), rtol=1e-5, atol=1e-6)
    second, direct = (calibrations(read_model(tmp_path / name)) for name in ("second", "direct"))
    assert second == direct  # with the statistics of the training
    original = read_model(folder / "model")
    assert second["arousal"].former_mean == original.label_mean[0] and set(second) == {"arousal", "valence"}
    # All else is as it was.
    calibrated = read_model(tmp_path / "second")
    assert calibrated.origin == original.origin | {"calibration": calibrated.origin["calibration"]}
    np.testing.assert_array_equal(calibrated.centroids, original.centroids)


def test_what_is_refused(folder: Path, tmp_path: Path) -> None:
    model, data = str(folder / "model"), str(folder / "data")

    def refused(*more: str, source: str = model, output: Path = tmp_path / "output") -> str:
        with pytest.raises(InputError) as error:
            call(calibrate, "--checkpoint", source, "--data-dir", data, "--output", str(output), "--quiet", *more)
        assert not (tmp_path / "output").exists()
        return str(error.value)

    assert "--recordings is 4; expected 5 to" in refused("--recordings", "4")
    assert "--recordings is 26, and 25 recordings of the train split have a label of" in refused("--recordings", "26")
    assert "--split test would calibrate the model on the labels" in refused("--split", "test")
    assert f"--output {model} holds other files" in refused(output=folder / "model")
    assert f"--output {folder} holds other files" in refused(output=folder)
    unknown = np.full(3, np.nan, np.float32)
    original = read_model(folder / "model")
    save_model(tmp_path / "unlabelled", dataclasses.replace(original, label_mean=unknown, label_std=unknown))
    assert "was trained without labels and predicts none" in refused(source=str(tmp_path / "unlabelled"))
    renamed = dataclasses.replace(original.config, attributes=("liking", "stress", "dominance"))
    save_model(tmp_path / "others", dataclasses.replace(original, config=renamed))
    none = refused(source=str(tmp_path / "others"))
    assert "no recording of the train split of" in none and "has a label of liking or stress or dominance" in none
    save_model(tmp_path / "odd", dataclasses.replace(original, origin={"calibration": {"arousal": {"split": 3}}}))
    assert "the model's origin: calibration of arousal" in refused(source=str(tmp_path / "odd"))


def test_the_test_split_with_a_word(folder: Path, tmp_path: Path) -> None:
    output = tmp_path / "output"
    output.mkdir()
    (output / "weights-000000").mkdir()  # of a command that was killed
    given = ["--checkpoint", str(folder / "model"), "--data-dir", str(folder / "data"), "--output", str(output)]
    call(calibrate, *given, "--split", "test", "--allow-test", "--quiet")
    assert calibrations(read_model(output))["arousal"].split == "test"
