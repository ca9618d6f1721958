"""A temporal network sees whole recordings, with their chunks in order, in training and in prediction."""

from __future__ import annotations

import dataclasses
import importlib.util
import sys
from pathlib import Path
from typing import Literal

import jax
import numpy as np
import pytest

from emocluster_jax import config as settings
from emocluster_jax.config import ModelConfig, TrainConfig
from emocluster_jax.console import Console
from emocluster_jax.errors import InputError
from emocluster_jax.feed.from_records import load_split
from emocluster_jax.inference.model_directory import read_model
from emocluster_jax.inference.predictor import Predictor
from emocluster_jax.records.preparation import read_preparation
from emocluster_jax.training.loop import fit
from small_records import write_records
from small_training import FEATURES, MODEL, draw_recordings, make_data

EXAMPLE = Path(__file__).resolve().parents[2] / "docs" / "examples" / "running_mean.py"


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    """The example of docs/extending.md as `emocluster_jax.models.temporal.running_mean`."""
    name = "emocluster_jax.models.temporal.running_mean"
    spec = importlib.util.spec_from_file_location(name, EXAMPLE)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(settings, "TemporalName", Literal["none", "running_mean"])


def test_resident_and_streamed_training_are_bit_equal_and_predictions_look_back(tmp_path: Path) -> None:
    model = dataclasses.replace(MODEL, temporal="running_mean")
    write_records(tmp_path / "data", FEATURES, {"train": draw_recordings(10, seed=6)})
    preparation = read_preparation(tmp_path / "data")
    models = []
    for feed in ("resident", "streamed"):
        split = load_split(tmp_path / "data", preparation, "train", Console(quiet=True), feed=feed)
        data = dataclasses.replace(make_data(unlabeled=False, validation=False), train=split)
        fit(TrainConfig(model=model, epochs=1, batch_size=4), data, tmp_path / feed, Console(quiet=True))
        models.append(read_model(tmp_path / feed / "model"))
    leaves = [jax.tree.leaves((found.variables, found.centroids)) for found in models]
    for resident, streamed in zip(*leaves, strict=True):
        np.testing.assert_array_equal(resident, streamed)
    assert models[0].variables["params"]["temporal"]["past"]["bias"].any()  # it was trained

    chunks = draw_recordings(1, seed=9)[0][0].astype(np.float32)
    other = chunks.copy()
    other[2] = 0
    one, changed = (Predictor(models[0]).predict_chunks(x)[0].chunk_attributes for x in (chunks, other))
    np.testing.assert_array_equal(one[:2], changed[:2])  # earlier chunks know nothing of a later one
    assert (one[2:] != changed[2:]).all()


def test_an_unknown_one_is_refused() -> None:
    with pytest.raises(InputError, match="--temporal is gru; expected one of none, running_mean"):
        ModelConfig(temporal="gru")  # type: ignore[arg-type]
