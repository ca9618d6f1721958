"""Training steps of stage II and embedding, on chunks that lie on the devices and on chunks streamed from records."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from emocluster_jax.benchmark.cases import Case, Contender, Device, Prepared, ours, peer, torch_peers
from emocluster_jax.benchmark.made_data import labelled_recordings, temporary_recordings
from emocluster_jax.benchmark.programs import compile_times, floor_seconds, forward_bytes, model_config, training_bytes
from emocluster_jax.config import FeatureConfig, ModelConfig, TrainConfig
from emocluster_jax.corpora.labels import VAD, LabelColumns
from emocluster_jax.feed.split import AUDIO, Feed, ResidentSplit, Split, place
from emocluster_jax.inference.forward import make_forward
from emocluster_jax.models.registry import network_of
from emocluster_jax.objectives.stage import stages_of
from emocluster_jax.runtime import parallel
from emocluster_jax.training.steps import (
    LOGGED_STEPS,
    Step,
    StepArrays,
    Trained,
    create_train_state,
    empty_log,
    step_log,
    training_program,
)


def train_cases(device: Device, quick: bool) -> list[Case]:
    """Joint steps at several batch sizes; on accelerators also in bfloat16, the largest also by our kernels."""
    # A step on an accelerator takes milliseconds; over this many, queueing the first one does not count.
    steps = 1 if device.platform == "cpu" else 50
    work: dict[str, Any] = {"recordings": 64, "steps": steps, "width_multiplier": 0.125 if quick else 1.0}
    sizes = (22,) if quick else (176, 352, 704)
    return [
        Case(
            "train",
            f"joint step, {chunks} chunks, {arithmetic}",
            ours(joint_steps, {"chunks": chunks, "arithmetic": arithmetic, **work}),
            torch_peers("torch_networks:joint_steps", {"chunks": chunks, **work}, device, quick),
        )
        for chunks in sizes
        for arithmetic in device.arithmetic
        if "fused" not in arithmetic or chunks == sizes[-1]
    ]


def embed_cases(device: Device, quick: bool) -> list[Case]:
    """A small set and a larger one, on accelerators also in bfloat16; then one chunk of ever larger sets."""
    on_cpu = device.platform == "cpu"
    width = {"width_multiplier": 0.125 if quick else 1.0}
    narrow = {"arithmetic": "float32", "width_multiplier": 0.125}

    def peers(work: dict[str, Any]) -> tuple[Contender, ...]:
        in_torch = torch_peers("torch_networks:embedding", work, device, quick)
        return (*in_torch, peer("ONNX Runtime", "onnx_networks:embedding", work)) if on_cpu else in_torch

    return [
        Case(
            "embed",
            f"{11 * recordings} chunks, {arithmetic}",
            ours(embedding, {"recordings": recordings, "arithmetic": arithmetic, **width}),
            peers({"recordings": recordings, **width}),
        )
        for recordings in ((2,) if quick else (32, 128) if on_cpu else (32, 10_000))
        for arithmetic in device.arithmetic
        if "fused" not in arithmetic  # kernels are for training
    ] + [
        Case(
            "embed",
            f"a chunk of {11 * recordings:,}, an eighth of the width",
            ours(embedding, {"recordings": recordings, "units": 11 * recordings, **narrow}),
        )
        for recordings in (() if quick else (91, 909, 9_091) if on_cpu else (91, 909, 9_091, 90_909))
    ]


def feed_cases(device: Device, quick: bool) -> list[Case]:
    """Streamed and resident throughput."""
    recordings, steps, batch = (3, 1, 1) if quick else (64, 2, 16) if device.platform == "cpu" else (5_000, 75, 64)
    work = {"recordings": recordings, "steps": steps, "batch": batch, "eighths": 1 if quick else 8}
    streamed, resident = (
        ours(embedding_and_steps, {**work, "feed": feed}, name=f"emocluster_jax, {feed}")
        for feed in ("streamed", "resident")
    )
    embedded = f"{recordings} recordings embedded, {steps} steps of {batch}, streamed"
    return [Case("feed", embedded, streamed, (resident,))]


def joint_steps(recordings: int, chunks: int, steps: int, arithmetic: str, width_multiplier: float) -> Prepared:
    """`steps` steps of `chunks` chunks by the program that training runs."""
    config = model_config(arithmetic, width_multiplier)
    split = labelled_split(recordings, seed=0)
    work = JointSteps(config, recordings, steps, chunks)

    compile_seconds, cached = compile_times(lambda: work.compile(split))
    work.run(split)
    return Prepared(
        lambda: work.run(split), steps, compile_seconds, cached, floor_seconds(training_bytes(config, chunks))
    )


def embedding(recordings: int, arithmetic: str, width_multiplier: float, units: int = 1) -> Prepared:
    """The network in evaluation mode over a split, as at the start of each stage."""
    config = model_config(arithmetic, width_multiplier)
    split, embed = labelled_split(recordings, seed=0), embedder(config)
    compile_seconds, cached = compile_times(lambda: embed(labelled_split(1, seed=0)))
    embed(split)
    floor = floor_seconds(forward_bytes(config, split.chunk_count))
    return Prepared(lambda: embed(split), units, compile_seconds, cached, floor)


def embedder(config: ModelConfig) -> Callable[[Split], None]:
    """Passes a split through a freshly drawn network, and waits for the end."""
    state = create_train_state(network_of(config), FeatureConfig(), {}, jax.random.key(0, impl="rbg"))
    variables, forward = parallel.replicate(state.variables), make_forward(config, fast=True)

    def embed(split: Split) -> None:
        jax.block_until_ready(forward(variables, split, lambda chunks: None))

    return embed


def embedding_and_steps(recordings: int, batch: int, steps: int, eighths: int, feed: Feed) -> Prepared:
    """Embeds and trains on records of noise; a resident split has been read when this returns."""
    # The other functions need neither librosa nor TFDS.
    from emocluster_jax.console import Console
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
        training.run(split)

    repeat()
    return Prepared(repeat, close=folder.cleanup)


def labelled_split(recordings: int, seed: int) -> ResidentSplit:
    """Labelled noise on the devices."""
    chunks, ratings = labelled_recordings(recordings, seed)
    return place({AUDIO: chunks}, LabelColumns(VAD, ratings), recordings)


class JointSteps:
    """Stage II over random batches, with pseudo-labels and targets of noise.

    Attributes:
      batches: (steps, chunks) int32.
      trained: the network and the steps' log, on every device.
    """

    def __init__(self, config: ModelConfig, recordings: int, steps: int, chunks: int) -> None:
        training, features = TrainConfig(model=config), FeatureConfig()
        stage = stages_of(training, parallel.AXIS).labeled
        each, rng = features.chunks_per_utterance, np.random.default_rng(0)
        self._key = jax.random.key(0, impl="rbg")
        state = create_train_state(network_of(config), features, {stage.name: stage.optimizer}, self._key)
        self.batches = rng.integers(recordings * each, size=(steps, chunks), dtype=np.int32)
        pseudo_labels = rng.integers(config.clusters, size=recordings * each, dtype=np.int32)
        targets = rng.standard_normal((recordings, 1), np.float32)
        log = empty_log(step_log(training, features, stage.name), LOGGED_STEPS)
        self.trained = parallel.replicate(Trained(state, log))
        self._program = training_program(stage)
        self._pseudo_labels: Any = pseudo_labels
        self._targets: Any = np.repeat(targets, each, axis=0)

    def compile(self, split: Split) -> None:
        """Makes the program ready."""
        with split.draws(self.batches, together=1) as rows:
            self._program.lower(*self._arguments(next(rows), 0)).compile()

    def run(self, split: Split) -> None:
        """All steps, and waits for them."""
        with split.draws(self.batches, together=1) as rows:
            given = next(rows)
            for number in range(len(self.batches)):
                self.trained = self._program(*self._arguments(given, number))
                given = next(rows, None)
        jax.block_until_ready(self.trained.log)

    def _arguments(self, given: Any, number: int) -> tuple[Trained, StepArrays, Step]:
        own = parallel.own_shares(self.batches[number])
        arrays = StepArrays(given, self._pseudo_labels[own], self._targets[own])
        return self.trained, arrays, Step(self._key, np.int32(number), np.float32(0))
