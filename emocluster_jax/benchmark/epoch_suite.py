"""Whole epochs by `training.loop.fit`: embedding, K-means, steps, validation and checkpoints."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Semaphore
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array

from emocluster_jax.benchmark.cases import Case, Device, Prepared, ours, peer
from emocluster_jax.benchmark.network_suites import labelled_split
from emocluster_jax.benchmark.programs import seconds_of
from emocluster_jax.config import FeatureConfig, ModelConfig, TrainConfig
from emocluster_jax.console import Console
from emocluster_jax.corpora.labels import VAD, LabelColumns
from emocluster_jax.feed.split import AUDIO, ResidentSplit
from emocluster_jax.runtime import parallel
from emocluster_jax.training.data import TrainingData
from emocluster_jax.training.loop import fit
from emocluster_jax.training.metrics_log import METRICS_FILE


def epoch_cases(device: Device, quick: bool) -> list[Case]:
    """An epoch on a small corpus; on accelerators also one in the paper's 40K setting."""
    # The size of EmoTale's Danish part without its test speakers.
    work: dict[str, Any] = {"train": 275, "validation": 75, "batch_size": 16, "width_multiplier": 1.0}
    if quick:
        work = {"train": 6, "validation": 3, "batch_size": 2, "width_multiplier": 0.125}
    torch = peer("PyTorch", "torch_networks:epochs", {**work, "device": device.torch})
    name = f"supervised, {work['train']} + {work['validation']} recordings, batch {work['batch_size']}"
    found = [Case("epoch", name, ours(small_corpus, work), (torch,) if device.torch else ())]
    if device.platform != "cpu" and not quick:
        name = "semi-supervised, 34,280 + 40,000 recordings, batch 64, bfloat16"
        work = {"train": 34_280, "unlabeled": 40_000, "validation": 5_958, "batch_size": 64}
        found.append(Case("epoch", name, ours(large_corpus, work)))
    return found


def small_corpus(train: int, validation: int, batch_size: int, width_multiplier: float) -> Prepared:
    """Arrays from the host, float32, supervised."""
    splits = labelled_split(train, seed=0), labelled_split(validation, seed=1)
    return _epochs(ModelConfig(width_multiplier=width_multiplier), batch_size, *splits)


def large_corpus(train: int, unlabeled: int, validation: int, batch_size: int) -> Prepared:
    """The same with stage I, in bfloat16, on arrays drawn on the devices."""
    splits = (_drawn_on_devices(size, seed) for seed, size in enumerate((train, validation, unlabeled)))
    return _epochs(ModelConfig(compute_dtype="bfloat16"), batch_size, *splits)


def _epochs(
    model: ModelConfig,
    batch_size: int,
    train: ResidentSplit,
    validation: ResidentSplit,
    unlabeled: ResidentSplit | None = None,
) -> Prepared:
    """One epoch of a training run per repetition, after a first one that compiles; `fit` times that of the steps."""
    features = FeatureConfig()
    mean, std = np.zeros(features.mel_bands, np.float32), np.ones(features.mel_bands, np.float32)
    data = TrainingData(
        train=train, validation=validation, unlabeled=unlabeled, features=features, feature_mean=mean, feature_std=std
    )
    workdir = tempfile.TemporaryDirectory()
    endless = TrainConfig(model=model, batch_size=batch_size, epochs=10**6)
    training = _Training(endless, data, Path(workdir.name))

    def repeat() -> Mapping[str, float]:
        metrics: dict[str, Any] = {}
        took = seconds_of(lambda: metrics.update(training.next_epoch()))
        parts = metrics["seconds"]
        outside = 1 - sum(parts[name] for name in ("embed", "kmeans", "steps", "validate")) / took
        return {**parts, "share outside programs": outside, "validation CCC": metrics["validation_ccc_mean"]}

    def close() -> None:
        training.stop()
        workdir.cleanup()

    return Prepared(repeat, compile_seconds=repeat()["compile"], close=close)


class _Training:
    """A call of `fit` in a thread, which waits after every epoch."""

    def __init__(self, config: TrainConfig, data: TrainingData, workdir: Path) -> None:
        self._metrics = workdir / METRICS_FILE
        self._go, self._done, self._stopped = Semaphore(0), Semaphore(0), False
        self._thread = ThreadPoolExecutor(1, initializer=self._go.acquire)
        self._fit = self._thread.submit(fit, config, data, workdir, Console(quiet=True), after_epoch=self._wait)
        self._fit.add_done_callback(lambda _: self._done.release())

    def next_epoch(self) -> dict[str, Any]:
        """Runs one epoch and returns its line of the metrics."""
        self._go.release()
        self._done.acquire()
        if self._fit.done():
            self._fit.result()  # raises why there is no epoch
        return json.loads(self._metrics.read_text("utf-8").splitlines()[-1])

    def stop(self) -> None:
        """Ends the training after the last epoch that was run."""
        self._stopped = True
        self._go.release()
        self._thread.shutdown()

    def _wait(self) -> None:
        self._done.release()
        self._go.acquire()
        if self._stopped:
            raise SystemExit  # of the thread


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
