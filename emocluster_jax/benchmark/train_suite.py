"""Training steps of stage II, by the program that training runs, over a split that lies on the devices."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from emocluster_jax.benchmark.bandwidth import floor_seconds, training_bytes
from emocluster_jax.benchmark.cases import Case, Device, Prepared, ours
from emocluster_jax.benchmark.compilation import compile_times
from emocluster_jax.benchmark.made_data import labelled_recordings
from emocluster_jax.benchmark.peers import torch_contenders
from emocluster_jax.config import FeatureConfig, ModelConfig, TrainConfig
from emocluster_jax.corpora.labels import VAD, LabelColumns
from emocluster_jax.feed.resident import ResidentSplit, place
from emocluster_jax.feed.split import AUDIO, Held, Inputs
from emocluster_jax.models.registry import network_of
from emocluster_jax.objectives.stage import stages_of
from emocluster_jax.runtime import parallel
from emocluster_jax.training.programs import Labels, StageArrays, StepRange, Trained, training_program
from emocluster_jax.training.state import create_train_state
from emocluster_jax.training.steps import empty_log, step_log

RECORDINGS = 64
"""In the split that batches are drawn from: 704 chunks."""


def cases(device: Device, quick: bool) -> list[Case]:
    """Joint steps at several batch sizes; on accelerators also in bfloat16."""
    sizes = (22,) if quick else (176, 352, 704)
    types = ("float32",) if device.platform == "cpu" else ("float32", "bfloat16")
    # A step on an accelerator takes milliseconds; this many hide the way from the host.
    steps = 1 if device.platform == "cpu" else 50
    work: dict[str, Any] = {"recordings": RECORDINGS, "steps": steps, "width_multiplier": 0.125 if quick else 1.0}
    return [
        Case(
            "train",
            f"joint step, {chunks} chunks, {dtype}",
            ours(joint_steps, {"chunks": chunks, "compute_dtype": dtype, **work}),
            torch_contenders("torch_training:joint_steps", {"chunks": chunks, **work}, device, quick),
        )
        for chunks in sizes
        for dtype in types
    ]


def joint_steps(recordings: int, chunks: int, steps: int, compute_dtype: Any, width_multiplier: float) -> Prepared:
    """This project's side: `steps` steps of `chunks` chunks in one call of the program."""
    config = ModelConfig(compute_dtype=compute_dtype, width_multiplier=width_multiplier)
    split = labelled_split(recordings, seed=0)
    work = JointSteps(config, recordings, steps, chunks)

    def run(last: int) -> None:
        work.run(Held(split.inputs), 0, last)
        jax.block_until_ready(work.trained.log)

    compile_seconds, cached = compile_times(lambda: run(0))
    run(steps)
    return Prepared(lambda: run(steps), steps, compile_seconds, cached, floor_seconds(training_bytes(config, chunks)))


def labelled_split(recordings: int, seed: int) -> ResidentSplit:
    """Labelled noise on the devices."""
    chunks, ratings = labelled_recordings(recordings, seed)
    return place({AUDIO: chunks}, LabelColumns(VAD, ratings), recordings)


class JointSteps:
    """Stage II over random batches, with everything that its steps need on the devices, as in training.

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
        labels = Labels(
            rng.integers(config.clusters, size=recordings * each, dtype=np.int32),
            rng.standard_normal((recordings, 1), np.float32),
            np.ones((recordings, 1), bool),
        )
        log = empty_log(step_log(training, features, stage.name), steps)
        self.trained, self._labels, self._table = parallel.replicate((Trained(state, log), labels, self.batches))
        self._program = training_program(stage, each)

    def run(self, given: Held | Inputs, first: int, last: int) -> None:
        """The steps from `first` up to, but not including, `last`, which all take these inputs."""
        arrays = StageArrays(given, self._labels, self._table)
        self.trained = self._program(self.trained, arrays, StepRange(self._key, np.float32(0), first, last))
