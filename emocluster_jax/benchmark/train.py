"""Training steps of stage II, by the program that training runs, over a split that lies on the devices."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from emocluster_jax.benchmark.arrays import labelled_recordings
from emocluster_jax.benchmark.bandwidth import floor_seconds, training_bytes
from emocluster_jax.benchmark.cases import Case, Contender, Device, Prepared
from emocluster_jax.benchmark.compilation import compile_times
from emocluster_jax.benchmark.peers import torch_contenders
from emocluster_jax.config import FeatureConfig, ModelConfig, TrainConfig
from emocluster_jax.feed.resident import place
from emocluster_jax.feed.split import AUDIO, Held
from emocluster_jax.models.registry import network_of
from emocluster_jax.objectives.registry import stages_of
from emocluster_jax.runtime import parallel
from emocluster_jax.training.programs import Labels, StageArrays, StepRange, Trained, training_program
from emocluster_jax.training.state import create_train_state
from emocluster_jax.training.steps import empty_log, step_log

RECORDINGS = 64
"""In the split that batches are drawn from: 704 chunks."""


def cases(device: Device, quick: bool) -> list[Case]:
    """Joint steps at several batch sizes; on accelerators in bfloat16, too."""
    sizes = (22,) if quick else (176, 352, 704)
    types = ("float32",) if device.platform == "cpu" else ("float32", "bfloat16")
    # A step on an accelerator takes milliseconds; so many hide the way from the host.
    steps = 1 if device.platform == "cpu" else 50
    work: dict[str, Any] = {"recordings": RECORDINGS, "steps": steps, "width_multiplier": 0.125 if quick else 1.0}
    return [
        Case(
            "train",
            f"joint step, {chunks} chunks, {dtype}",
            Contender(
                "emocluster_jax",
                f"{__name__}:joint_steps",
                {"chunks": chunks, "compute_dtype": dtype, **work},
                keeps_memory=True,
            ),
            torch_contenders("torch_training:joint_steps", {"chunks": chunks, **work}, device, quick),
        )
        for chunks in sizes
        for dtype in types
    ]


def joint_steps(recordings: int, chunks: int, steps: int, compute_dtype: Any, width_multiplier: float) -> Prepared:
    """This project's side of the suite: `steps` steps of `chunks` chunks in one call of the program."""
    config = ModelConfig(compute_dtype=compute_dtype, width_multiplier=width_multiplier)
    stage = stages_of(TrainConfig(model=config), parallel.AXIS).labeled
    arrays, ratings = labelled_recordings(recordings, seed=0)
    split = place({AUDIO: arrays}, ratings, recordings)
    rng = np.random.default_rng(0)
    labels = Labels(
        rng.integers(config.clusters, size=split.chunk_count).astype(np.int32),
        split.attributes[:, :1] - 4,
        np.ones((recordings, 1), bool),
    )
    batches = rng.integers(split.chunk_count, size=(steps, chunks)).astype(np.int32)
    key = jax.random.key(0, impl="rbg")
    optimizers, features = {stage.name: stage.optimizer}, FeatureConfig()
    state = create_train_state(network_of(config), features, optimizers, key)
    log = empty_log(step_log(TrainConfig(model=config), features, stage.name), steps)
    trained, labels, batches = parallel.replicate((Trained(state, log), labels, batches))
    arrays = StageArrays(Held(split.inputs), labels, batches)
    program = training_program(stage, split.chunks_per_utterance)

    def run(last: int) -> dict[str, float]:
        nonlocal trained
        trained = program(trained, arrays, StepRange(key, np.float32(0), 0, last))
        jax.block_until_ready(trained.log)
        return {}

    compile_seconds, cached = compile_times(lambda: run(0))
    run(steps)
    return Prepared(lambda: run(steps), steps, compile_seconds, cached, floor_seconds(training_bytes(config, chunks)))
