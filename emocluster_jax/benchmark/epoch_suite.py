"""Whole epochs by `training.loop.fit`: embedding, K-means, steps, validation and checkpoints."""

from __future__ import annotations

import json
import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array

from emocluster_jax.benchmark.cases import Case, Contender, Device, Prepared, ours
from emocluster_jax.benchmark.compilation import seconds_of
from emocluster_jax.benchmark.train_suite import labelled_split
from emocluster_jax.config import FeatureConfig, ModelConfig, TrainConfig
from emocluster_jax.console import Console
from emocluster_jax.corpora.labels import VAD, LabelColumns
from emocluster_jax.feed.resident import ResidentSplit
from emocluster_jax.feed.split import AUDIO
from emocluster_jax.runtime import parallel
from emocluster_jax.training.data import TrainingData
from emocluster_jax.training.loop import fit
from emocluster_jax.training.metrics_log import METRICS_FILE

COMPILED_PARTS = ("embed", "kmeans", "steps", "validate")
"""The parts of an epoch that compiled programs carry out."""


def cases(device: Device, quick: bool) -> list[Case]:
    """An epoch on a small corpus; on accelerators also one in the paper's 40K setting."""
    # The size of EmoTale's Danish part without its test speakers.
    work: dict[str, Any] = {"train": 275, "validation": 75, "batch_size": 16, "width_multiplier": 1.0}
    if quick:
        work = {"train": 6, "validation": 3, "batch_size": 2, "width_multiplier": 0.125}
    on_cpu = device.platform == "cpu"
    torch = {"device": "cpu" if on_cpu else "cuda"}
    peer = Contender("PyTorch", "emocluster_jax.benchmark.peers.torch_epoch:epochs", {**work, **torch})
    found = [
        Case(
            "epoch",
            f"supervised, {work['train']} + {work['validation']} recordings, batch {work['batch_size']}",
            ours(small_corpus, work),
            (peer,) if device.platform in ("cpu", "gpu") else (),
        )
    ]
    if not on_cpu and not quick:
        work = {"train": 34_280, "unlabeled": 40_000, "validation": 5_958, "batch_size": 64}
        found.append(
            Case(
                "epoch",
                "semi-supervised, 34,280 + 40,000 recordings, batch 64, bfloat16",
                ours(large_corpus, work),
            )
        )
    return found


def small_corpus(train: int, validation: int, batch_size: int, width_multiplier: float) -> Prepared:
    """This project's side: arrays from the host, float32, supervised."""
    data = _training_data(labelled_split(train, seed=0), labelled_split(validation, seed=1))
    return _epochs(TrainConfig(model=ModelConfig(width_multiplier=width_multiplier), batch_size=batch_size), data)


def large_corpus(train: int, unlabeled: int, validation: int, batch_size: int) -> Prepared:
    """The same with stage I, in bfloat16, on arrays drawn on the devices."""
    data = _training_data(
        _drawn_on_devices(train, 0), _drawn_on_devices(validation, 1), _drawn_on_devices(unlabeled, 2)
    )
    return _epochs(TrainConfig(model=ModelConfig(compute_dtype="bfloat16"), batch_size=batch_size), data)


def _epochs(config: TrainConfig, data: TrainingData) -> Prepared:
    """One epoch of a training run per repetition, after a first one that compiles; `fit` times that of the steps."""
    workdir = tempfile.TemporaryDirectory()
    run = _Training(config, data, Path(workdir.name))

    def repeat() -> Mapping[str, float]:
        metrics: dict[str, Any] = {}
        took = seconds_of(lambda: metrics.update(run.next_epoch()))
        parts = metrics["seconds"]
        outside = 1 - sum(parts[name] for name in COMPILED_PARTS) / took
        return {**parts, "share outside programs": outside, "validation CCC": metrics["validation_ccc_mean"]}

    def close() -> None:
        run.stop()
        workdir.cleanup()

    return Prepared(repeat, compile_seconds=repeat()["compile"], close=close)


class _Stopped(BaseException):
    """No further epoch is wanted."""


class _Training(Console):
    """A call of `fit` in a thread, which waits after every epoch: when `fit` prints a line."""

    def __init__(self, config: TrainConfig, data: TrainingData, workdir: Path) -> None:
        super().__init__(quiet=True)
        endless = TrainConfig(model=config.model, batch_size=config.batch_size, epochs=10**6)
        self._metrics = workdir / METRICS_FILE
        self._go, self._done = threading.Semaphore(0), threading.Semaphore(0)
        self._thread = threading.Thread(target=self._fit, args=(endless, data, workdir), daemon=True)
        self._error: BaseException | None = None
        self._stopped = False
        self._thread.start()

    def next_epoch(self) -> dict[str, Any]:
        """Runs one epoch and returns its line of the metrics."""
        self._go.release()
        self._done.acquire()
        if self._error is not None:
            raise self._error
        return json.loads(self._metrics.read_text("utf-8").splitlines()[-1])

    def stop(self) -> None:
        """Ends the training after the last epoch that was run."""
        self._stopped = True
        self._go.release()
        self._thread.join()

    def line(self, text: str = "") -> None:
        self._done.release()
        self._go.acquire()
        if self._stopped:
            raise _Stopped

    def _fit(self, config: TrainConfig, data: TrainingData, workdir: Path) -> None:
        self._go.acquire()
        try:
            fit(config, data, workdir, self)
        except _Stopped:
            pass
        except BaseException as error:
            self._error = error
            self._done.release()


def _training_data(
    train: ResidentSplit, validation: ResidentSplit, unlabeled: ResidentSplit | None = None
) -> TrainingData:
    features = FeatureConfig()
    return TrainingData(
        train=train,
        validation=validation,
        unlabeled=unlabeled,
        features=features,
        feature_mean=np.zeros(features.mel_bands, np.float32),
        feature_std=np.ones(features.mel_bands, np.float32),
    )


def _drawn_on_devices(recordings: int, seed: int) -> ResidentSplit:
    """Like `labelled_recordings`, but drawn on the devices, so that the host need not hold it."""
    features = FeatureConfig()
    share = parallel.padded_length(recordings) // jax.device_count()
    shape = (features.chunks_per_utterance, features.chunk_frames, features.mel_bands)
    ratings = np.random.default_rng(seed).normal(4, 1, (recordings, len(VAD))).clip(1, 7).astype(np.float32)

    def draw(ratings: Array) -> Array:
        def one(row: tuple[Array, Array]) -> Array:
            number, rating = row
            key = jax.random.fold_in(jax.random.key(seed, impl="rbg"), number)
            noise = jax.random.normal(key, shape, jnp.float32) + 0.5 * (rating - 4)
            return noise.clip(-features.clip, features.clip).astype(jnp.float16)

        numbers = lax.axis_index(parallel.AXIS) * share + jnp.arange(share)
        return lax.map(one, (numbers, ratings), batch_size=64)

    program = parallel.parallel(lambda _, ratings, __: draw(ratings))
    chunks = program((), parallel.shard(ratings[:, 0], recordings), ())
    return ResidentSplit({AUDIO: chunks}, LabelColumns(VAD, ratings))
