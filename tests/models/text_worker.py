"""Prepares, trains, evaluates and predicts with the second input of docs/extending.md; see extended_worker.py."""

from __future__ import annotations

import contextlib
import csv
import io
from pathlib import Path

import numpy as np
import pytest
import soundfile

import emocluster_jax
from emocluster_jax import Console, InputError, ModelConfig, RecordingError, TrainConfig
from emocluster_jax.config import OptimizerConfig
from emocluster_jax.inference.model_directory import read_model
from emocluster_jax.interop.export_folder import check_request
from small_models import noise, write_recording

LENGTH = 4
QUIET = Console(quiet=True)


def write_corpus(folder: Path) -> None:
    """Noise of a second, which tells nothing of the label; the vectors do. Recording 5 has none, that of 6 is NaN."""
    (folder / "text").mkdir(parents=True)
    random = np.random.default_rng(0)
    with (folder / "manifest.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["file", "split", "arousal", "input:text"])
        for i in range(28):
            write_recording(folder / f"{i:02d}.wav", noise(1.0, seed=i))
            split = "test" if i % 4 == 3 else "validation" if i % 4 == 1 else "train"
            label = random.uniform(1, 7)
            vector = np.array([label - 4, 1, 0, np.nan if i == 6 else 4 - label])
            np.save(folder / "text" / f"{i}.npy", vector)
            rows.writerow([f"{i:02d}.wav", split, f"{label:.3f}", "" if i == 5 else f"text/{i}.npy"])


def main(folder: Path) -> None:
    corpus, data, table = folder / "corpus", folder / "data", folder / "corpus" / "manifest.csv"
    write_corpus(corpus)
    preparation = emocluster_jax.prepare("manifest", corpus, data, mel_bands=16, workers=1, console=QUIET)
    assert preparation.inputs == (("text", LENGTH),)
    assert [(s.id, s.reason) for s in preparation.skipped] == [("06.wav", "input text: NaN or infinite numbers")]

    model = ModelConfig(system="text_regressor", attributes=("arousal",), width_multiplier=1 / 8, dropout_rate=0.0)  # type: ignore[arg-type]
    config = TrainConfig(model=model, epochs=4, batch_size=4, optimizer=OptimizerConfig(adam_learning_rate=0.02))
    run = emocluster_jax.fit(data, folder / "run", config, feed="streamed", console=QUIET)
    assert run.test is not None and run.test.scores["arousal"].ccc > 0.8  # noise alone would not tell

    evaluation = emocluster_jax.evaluate(run.model, data, "test", feed="resident", console=QUIET)
    np.testing.assert_array_equal(evaluation.predictions, run.test.predictions)
    with contextlib.redirect_stderr(io.StringIO()) as warnings:
        predictions = emocluster_jax.predict(run.model, table, console=Console(quiet=True))
    assert "the input text is missing for 1 of 28 recordings" in " ".join(warnings.getvalue().split())
    predicted = dict(zip(predictions.files, predictions.attributes["arousal"], strict=True))
    for id, (expected,) in zip(evaluation.describe().ids, evaluation.predictions, strict=True):
        np.testing.assert_allclose(predicted[id], expected, rtol=5e-3)
    assert [(s.file, s.reason) for s in predictions.skipped] == [("06.wav", "input text: NaN or infinite numbers")]

    predictor, (signal, rate) = emocluster_jax.load_model(run.model), soundfile.read(corpus / "05.wav")
    without = predictor(signal, rate, {"text": None}).attributes["arousal"]
    assert without == pytest.approx(predicted["05.wav"], rel=1e-4)
    assert abs(predictor(signal, rate, {"text": np.array([2.0, 1, 0, -2])}).attributes["arousal"] - without) > 0.5
    with pytest.raises(RecordingError, match=r"input text: an array of shape \(3,\); expected \(4,\)"):
        predictor(signal, rate, {"text": np.ones(3)})
    for given in ({}, {"text": None, "face": None}):
        with pytest.raises(InputError, match="reads text besides audio"):
            predictor(signal, rate, given)

    with pytest.raises(InputError, match="reads text besides audio"):
        check_request(folder / "exported", ["safetensors"], read_model(run.model))
    alone = folder / "alone"
    table.write_text("\n".join(line.rpartition(",")[0] for line in table.read_text().splitlines()))
    emocluster_jax.prepare("manifest", corpus, alone, mel_bands=16, workers=1, statistics_from=data, console=QUIET)
    with pytest.raises(InputError, match=r"reads the input 'text'; .*alone has none beside the audio"):
        emocluster_jax.fit(alone, folder / "other", config, console=QUIET)
    with pytest.raises(InputError, match="alone does not have all inputs that the model reads: text of 4 numbers"):
        emocluster_jax.evaluate(run.model, alone, "test", console=QUIET)
