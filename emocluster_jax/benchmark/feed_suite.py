"""Embedding and training on chunks streamed from the records, compared with chunks on the devices."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import jax
import numpy as np

from emocluster_jax.benchmark.cases import Case, Device, Prepared, ours
from emocluster_jax.benchmark.made_data import temporary_recordings
from emocluster_jax.benchmark.train_suite import JointSteps
from emocluster_jax.config import FeatureConfig, ModelConfig
from emocluster_jax.feed.choice import Feed
from emocluster_jax.feed.split import AUDIO
from emocluster_jax.inference.forward import make_forward
from emocluster_jax.runtime import parallel


def cases(device: Device, quick: bool) -> list[Case]:
    """Streamed and resident throughput, and what a streamed step takes besides computing, by size of the pool."""
    on_cpu = device.platform == "cpu"
    work = {"recordings": 64, "batch": 16, "steps": 2} if on_cpu else {"recordings": 5_000, "batch": 64, "steps": 75}
    pool, small = (50, 10) if quick else (500_000, 640)
    if quick:
        work = {"recordings": 3, "batch": 1, "steps": 1}
    work["eighths"] = 1 if quick else 8
    streamed, resident = (
        dataclasses.replace(ours(embedding_and_steps, {**work, "feed": feed}), name=f"emocluster_jax, {feed}")
        for feed in ("streamed", "resident")
    )
    of_small = dataclasses.replace(ours(calls_without_steps, {"recordings": small}), name=f"pool of {small} recordings")
    return [
        Case(
            "feed",
            f"{work['recordings']} recordings embedded, {work['steps']} steps of {work['batch']}, streamed",
            streamed,
            (resident,),
        ),
        Case(
            "feed",
            f"a call without a step, pool of {pool} recordings",
            ours(calls_without_steps, {"recordings": pool}),
            (of_small,),
        ),
    ]


def embedding_and_steps(recordings: int, batch: int, steps: int, eighths: int, feed: Feed) -> Prepared:
    """Embeds and trains on records of noise; a resident split has been read when this returns."""
    from emocluster_jax.console import Console
    from emocluster_jax.corpora.labels import VAD
    from emocluster_jax.corpora.utterance import Utterance
    from emocluster_jax.feed.from_records import load_split
    from emocluster_jax.records.reader import open_data
    from emocluster_jax.records.writer import prepare

    paths, folder = temporary_recordings(recordings, 2.8)
    data_dir = Path(folder.name) / "records"
    rows = [Utterance(f"{i:06d}", path, "train", labels=dict.fromkeys(VAD, 4.0)) for i, path in enumerate(paths)]
    console = Console(quiet=True)
    prepare(rows, data_dir, FeatureConfig(), "random", folder.name, 1, console)
    split = load_split(open_data(data_dir), "train", console, feed=feed)
    config = ModelConfig(width_multiplier=eighths / 8)
    forward = make_forward(config, fast=True)
    training = JointSteps(config, recordings, steps, batch * split.chunks_per_utterance)

    def repeat() -> None:
        jax.block_until_ready(forward(training.trained.state.variables, split, lambda chunks: None))
        with split.draws(training.batches, together=1) as spans:
            for given, first, last in spans(0, steps):
                training.run(given, first, last)
        jax.block_until_ready(training.trained.log)

    repeat()
    return Prepared(repeat, close=folder.cleanup)


def calls_without_steps(recordings: int) -> Prepared:
    """Calls the training program with all of its arrays, but without taking a step."""
    calls, features, batch = 100, FeatureConfig(), jax.device_count()
    each = features.chunks_per_utterance
    training = JointSteps(ModelConfig(width_multiplier=1 / 8), recordings, -(-recordings // batch), batch * each)
    shape = (jax.local_device_count(), each, 1, features.chunk_frames, features.dimensions)
    given = {AUDIO: parallel.deal(np.zeros(shape, np.float16))}

    def repeat() -> None:
        for _ in range(calls):
            training.run(given, 0, 0)
        jax.block_until_ready(training.trained.log)

    repeat()
    return Prepared(repeat, units=calls)
