"""Trains with the temporal network of docs/extending.md, resident and streamed; see extended_worker.py."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import jax
import numpy as np

from emocluster_jax.config import TrainConfig
from emocluster_jax.console import Console
from emocluster_jax.feed.from_records import load_split
from emocluster_jax.inference.model_directory import read_model
from emocluster_jax.inference.predictor import Predictor
from emocluster_jax.records.reader import open_data
from emocluster_jax.training.loop import fit
from small_records import write_records
from small_training import AUGMENTED, FEATURES, MODEL, draw_recordings, make_data


def main(folder: Path) -> None:
    model = dataclasses.replace(MODEL, system="past_mean")
    write_records(folder / "data", FEATURES, {"train": draw_recordings(10, seed=6)})
    prepared = open_data(folder / "data")
    models = []
    for feed in ("resident", "streamed"):
        split = load_split(prepared, "train", Console(quiet=True), feed=feed)
        data = dataclasses.replace(make_data(unlabeled=False, validation=False), train=split)
        config = TrainConfig(model=model, epochs=1, batch_size=4, augmentation=AUGMENTED)
        fit(config, data, folder / feed, Console(quiet=True))
        models.append(read_model(folder / feed / "model"))
    leaves = [jax.tree.leaves((found.variables, found.centroids)) for found in models]
    for resident, streamed in zip(*leaves, strict=True):
        np.testing.assert_array_equal(resident, streamed)
    assert models[0].variables["params"]["past"]["bias"].any()  # it was trained

    chunks = draw_recordings(1, seed=9)[0][0].astype(np.float32)
    other = chunks.copy()
    other[2] = 0
    one, changed = (Predictor(models[0]).predict_chunks(x)[0].chunk_embeddings for x in (chunks, other))
    np.testing.assert_array_equal(one[:2], changed[:2])  # earlier chunks know nothing of a later one
    assert (one[2:] != changed[2:]).any(axis=1).all()
