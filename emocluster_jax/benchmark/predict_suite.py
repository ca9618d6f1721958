"""Predicting a folder of recordings with three models: in a running process, and in a process from start to end."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np

from emocluster_jax.benchmark.cases import Case, Device, Prepared, ours, peer
from emocluster_jax.benchmark.made_data import temporary_recordings
from emocluster_jax.benchmark.programs import seconds_of
from emocluster_jax.config import ClusteringConfig, FeatureConfig, ModelConfig
from emocluster_jax.corpora.labels import VAD
from emocluster_jax.inference.model_directory import SavedModel, save_model
from emocluster_jax.inference.predictor import Predictor
from emocluster_jax.inference.recordings import Recording, predict_recordings
from emocluster_jax.models.registry import network_of
from emocluster_jax.runtime.child_processes import run_child
from emocluster_jax.training.steps import create_train_state

SECONDS = 2.8
_PROGRAM = """
import sys
from pathlib import Path
import emocluster_jax
from emocluster_jax.api.prediction_tables import write_table

table, recordings, *models = map(Path, sys.argv[1:])
console = emocluster_jax.Console(quiet=True)
write_table(table, emocluster_jax.predict(models, recordings, embeddings=False, console=console))
"""
"""Predicts a folder of recordings, as a command does."""


def predict_cases(device: Device, quick: bool) -> list[Case]:
    """Recordings in a running process; and a process from start to end, with a warm cache."""

    def case(name: str, function: Callable[..., Prepared], recordings: int, keeps_memory: bool) -> Case:
        work = {"recordings": recordings, "seconds": SECONDS}
        entry = f"recordings:{function.__name__}"
        torch = peer("librosa and PyTorch", entry, {**work, "device": device.torch})
        own = ours(function, work, keeps_memory=keeps_memory)
        return Case("predict", name, own, (torch,) if device.torch else ())

    several, many = (2, 3) if quick else (60, 450)
    return [
        case("a recording of 2.8 s, three models", predictions, several, True),
        case(f"{many} recordings of 2.8 s, three models, start-up included", whole_process, many, False),
    ]


def predictions(recordings: int, seconds: float) -> Prepared:
    """A running process; seconds are per recording."""
    paths, folder = temporary_recordings(recordings, seconds)
    rows = [Recording(str(i), path) for i, path in enumerate(paths)]
    predictors = [Predictor(model) for model in models()]

    def predict(rows: list[Recording]) -> None:
        for _ in predict_recordings(predictors, rows):
            pass

    first = seconds_of(lambda: predict(rows[:1]))
    return Prepared(lambda: predict(rows), recordings, first, audio_seconds=recordings * seconds, close=folder.cleanup)


def whole_process(recordings: int, seconds: float) -> Prepared:
    """A process that starts and loads the compiled programs from the cache each time."""
    paths, folder = temporary_recordings(recordings, seconds)
    root = Path(folder.name)
    folders = [root / f"model-{i}" for i in range(len(VAD))]
    for path, model in zip(folders, models(), strict=True):
        save_model(path, model)
    environment = os.environ | {"JAX_COMPILATION_CACHE_DIR": str(root / "cache")}

    def run(recordings: Path) -> None:
        line = [sys.executable, "-c", _PROGRAM, root / "table.csv", recordings, *folders]
        if status := run_child(line, environment=environment):
            raise subprocess.CalledProcessError(status, line)

    cold = seconds_of(lambda: run(paths[0]))
    return Prepared(lambda: run(paths[0].parent), compile_seconds=cold, close=folder.cleanup)


def models(width_multiplier: float = 1.0) -> list[SavedModel]:
    """Three freshly drawn models with one attribute each, and the same features, like the published ones."""
    features = FeatureConfig()
    drawn = []
    for seed, attribute in enumerate(VAD):
        config = ModelConfig(attributes=(attribute,), width_multiplier=width_multiplier)
        state = create_train_state(network_of(config), features, {}, jax.random.key(seed, impl="rbg"))
        model = SavedModel(
            config=config,
            clustering=ClusteringConfig(),
            features=features,
            feature_mean=np.ones(features.mel_bands, np.float32),
            feature_std=np.full(features.mel_bands, 3, np.float32),
            label_mean=np.full(1, 4, np.float32),
            label_std=np.ones(1, np.float32),
            variables=jax.tree.map(np.asarray, state.variables),
            transform=None,
            centroids=None,
            origin={},
        )
        drawn.append(model)
    return drawn
