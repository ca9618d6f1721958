"""Predicting a folder of recordings with three models: in a running process, and in a process from start to end."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from threadpoolctl import threadpool_limits

from emocluster_jax.benchmark.cases import Case, Device, Prepared, ours, peer
from emocluster_jax.benchmark.made_data import temporary_recordings
from emocluster_jax.benchmark.made_models import drawn_models
from emocluster_jax.benchmark.programs import seconds_of
from emocluster_jax.config import Engine
from emocluster_jax.corpora.labels import VAD
from emocluster_jax.inference.engine import missing_packages
from emocluster_jax.inference.model_directory import save_model
from emocluster_jax.inference.predictor import Predictor
from emocluster_jax.inference.recordings import Recording, predict_recordings
from emocluster_jax.runtime.child_processes import run_child

SECONDS = 2.8
_PROGRAM = """
import sys
from pathlib import Path
import emocluster_jax
from emocluster_jax.api.prediction_tables import write_table

engine, *paths = sys.argv[1:]
table, recordings, *models = map(Path, paths)
console = emocluster_jax.Console(quiet=True)
write_table(table, emocluster_jax.predict(models, recordings, embeddings=False, engine=engine, console=console))
"""
"""Predicts a folder of recordings, as a command does."""


def predict_cases(device: Device, quick: bool) -> list[Case]:
    """Recordings in a running process; and a process from start to end, with a warm cache.

    On a CPU where ONNX Runtime is installed, the peers are our own way by JAX as well, and ONNX Runtime on one
    recording after the other.
    """
    by_onnx = device.platform == "cpu" and not missing_packages()

    def case(name: str, function: Callable[..., Prepared], recordings: int, keeps_memory: bool) -> Case:
        work = {"recordings": recordings, "seconds": SECONDS}
        entry = f"recordings:{function.__name__}"
        by_jax = ours(function, {**work, "engine": "jax"}, keeps_memory=keeps_memory, name="emocluster_jax, by JAX")
        peers = [by_jax, peer("librosa and ONNX Runtime", entry, {**work, "runtime": "onnx"})] if by_onnx else []
        if device.torch:
            peers.append(peer("librosa and PyTorch", entry, {**work, "runtime": device.torch}))
        return Case("predict", name, ours(function, work, keeps_memory=keeps_memory), tuple(peers))

    several, many = (2, 3) if quick else (60, 450)
    return [
        case("a recording of 2.8 s, three models", predictions, several, True),
        case(f"{many} recordings of 2.8 s, three models, start-up included", whole_process, many, False),
    ]


def predictions(recordings: int, seconds: float, engine: Engine = "auto") -> Prepared:
    """A running process; seconds are per recording."""
    paths, folder = temporary_recordings(recordings, seconds)
    rows = [Recording(str(i), path) for i, path in enumerate(paths)]
    predictors = [Predictor(model, engine=engine) for model in drawn_models()]

    def predict(rows: list[Recording]) -> None:
        with threadpool_limits(1):  # as `emocluster_jax.predict`
            for _ in predict_recordings(predictors, rows):
                pass

    first = seconds_of(lambda: predict(rows[:1]))
    return Prepared(lambda: predict(rows), recordings, first, audio_seconds=recordings * seconds, close=folder.cleanup)


def whole_process(recordings: int, seconds: float, engine: Engine = "auto") -> Prepared:
    """A process that starts and loads the compiled programs from the cache each time."""
    paths, folder = temporary_recordings(recordings, seconds)
    root = Path(folder.name)
    folders = [root / f"model-{i}" for i in range(len(VAD))]
    for path, model in zip(folders, drawn_models(), strict=True):
        save_model(path, model)
    environment = os.environ | {"JAX_COMPILATION_CACHE_DIR": str(root / "cache")}

    def run(recordings: Path) -> None:
        line = [sys.executable, "-c", _PROGRAM, engine, root / "table.csv", recordings, *folders]
        if status := run_child(line, environment=environment):
            raise subprocess.CalledProcessError(status, line)

    cold = seconds_of(lambda: run(paths[0]))
    return Prepared(lambda: run(paths[0].parent), compile_seconds=cold, close=folder.cleanup)
