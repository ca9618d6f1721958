"""Embedding and training on chunks that are streamed from the records, beside chunks that lie on the devices."""

from __future__ import annotations

import tempfile
from pathlib import Path

import jax
import numpy as np

from emocluster_jax import parallel
from emocluster_jax.benchmark.cases import Case, Contender, Device, Prepared
from emocluster_jax.config import FeatureConfig, ModelConfig, TrainConfig
from emocluster_jax.evaluation.forward import make_forward
from emocluster_jax.feed.choice import Feed
from emocluster_jax.systems.registry import network_of, stages_of
from emocluster_jax.training.programs import Labels, training_program
from emocluster_jax.training.state import create_train_state


def cases(device: Device, quick: bool) -> list[Case]:
    """One case; its ratio is the streamed throughput as a share of the resident one."""
    on_cpu = device.platform == "cpu"
    work = {"recordings": 64, "batch": 16, "steps": 2} if on_cpu else {"recordings": 5_000, "batch": 64, "steps": 75}
    if quick:
        work = {"recordings": 3, "batch": 1, "steps": 1}
    work["eighths"] = 1 if quick else 8
    entry = f"{__name__}:embedding_and_steps"
    return [
        Case(
            "feed",
            f"{work['recordings']} recordings embedded, {work['steps']} steps of {work['batch']}, streamed",
            Contender("emocluster_jax, streamed", entry, {**work, "feed": "streamed"}, keeps_memory=True),
            (Contender("emocluster_jax, resident", entry, {**work, "feed": "resident"}, keeps_memory=True),),
        )
    ]


def embedding_and_steps(recordings: int, batch: int, steps: int, eighths: int, feed: Feed) -> Prepared:
    """Records of noise, embedded and trained on; the reading of a resident split is over when this returns."""
    from emocluster_jax.benchmark.recordings import write_recordings
    from emocluster_jax.corpora.utterance import Utterance
    from emocluster_jax.feed.from_records import load_split
    from emocluster_jax.records.preparation import read_preparation
    from emocluster_jax.records.writer import prepare
    from emocluster_jax.reporting.console import Console

    folder = tempfile.TemporaryDirectory()
    data_dir = Path(folder.name) / "records"
    paths = write_recordings(Path(folder.name), recordings, 2.8)
    rows = [Utterance(f"{i:06d}", path, "train", attributes=(4.0, 4.0, 4.0)) for i, path in enumerate(paths)]
    console = Console(quiet=True)
    prepare(rows, data_dir, FeatureConfig(), "random", folder.name, 1, console)
    split = load_split(data_dir, read_preparation(data_dir), "train", console, feed=feed)

    config = ModelConfig(width_multiplier=eighths / 8)
    stage = stages_of(TrainConfig(model=config), parallel.AXIS).labeled
    key = jax.random.key(0, impl="rbg")
    state = parallel.replicate(
        create_train_state(network_of(config), FeatureConfig(), {stage.name: stage.optimizer}, key)
    )
    rng = np.random.default_rng(0)
    shape = (steps, batch * split.chunks_per_utterance)
    batches = rng.integers(split.chunk_count, size=shape).astype(np.int32)
    labels = Labels(
        rng.integers(config.clusters, size=split.chunk_count).astype(np.int32),
        rng.standard_normal((recordings, 1), np.float32),
        np.ones((recordings, 1), bool),
    )
    terms = parallel.replicate({name: np.zeros(steps, np.float32) for name in stage.terms})
    forward, program = make_forward(config, fast=True), training_program(stage, split.chunks_per_utterance)

    def repeat() -> dict[str, float]:
        nonlocal state, terms
        jax.block_until_ready(forward(state.variables, split, lambda chunks: None))
        with split.draws(batches) as spans:
            for chunks, first, last in spans(0, steps):
                state, terms = program(state, chunks, labels, batches, key, terms, np.float32(0), first, last)
        jax.block_until_ready(terms)
        return {}

    repeat()
    return Prepared(repeat, close=folder.cleanup)
