"""Trains with the second input of docs/extending.md, and predicts; see extended_worker.py."""

from __future__ import annotations

from pathlib import Path

import numpy as np

import emocluster_jax
from emocluster_jax import Console, ModelConfig, TrainConfig
from emocluster_jax.config import FeatureConfig, OptimizerConfig
from emocluster_jax.corpora.inputs import FurtherInput
from emocluster_jax.inference.model_directory import read_model
from small_records import write_records

FEATURES = FeatureConfig(mel_bands=16, chunk_frames=16, chunks_per_utterance=2)
QUIET = Console(quiet=True)


def main(folder: Path) -> None:
    """Chunks of noise tell nothing of the label; the vectors do, and one is missing."""
    random = np.random.default_rng(0)
    labels = random.uniform(1, 7, (12, 3)).astype(np.float32)
    chunks = random.normal(size=(12, 2, 16, 16)).astype(np.float16)
    vectors = np.column_stack([labels[:, 0] - 4, np.ones(12)])
    vectors[5] = np.nan
    splits = dict.fromkeys(("train", "validation", "test"), (chunks, labels))
    write_records(folder / "data", FEATURES, splits, further={"text": vectors})

    model = ModelConfig(
        system="late_fusion",  # type: ignore[arg-type]
        attributes=("arousal",),
        inputs=("text",),
        width_multiplier=1 / 8,
        dropout_rate=0.0,
    )
    config = TrainConfig(model=model, epochs=4, batch_size=4, optimizer=OptimizerConfig(adam_learning_rate=0.05))
    run = emocluster_jax.fit(folder / "data", folder / "run", config, console=QUIET)
    assert run.test is not None and run.test.scores["arousal"].ccc > 0.8
    assert read_model(run.model).inputs == (FurtherInput("text", 2),)
    assert abs(run.test.predictions[5] - run.test.predictions.mean()) < abs(run.test.predictions - 4).max()
