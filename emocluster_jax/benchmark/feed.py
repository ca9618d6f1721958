"""Embedding and training on chunks that are streamed from the records, beside chunks that lie on the devices."""

from __future__ import annotations

import tempfile
from pathlib import Path

import jax
import numpy as np

from emocluster_jax.benchmark.cases import Case, Contender, Device, Prepared
from emocluster_jax.config import FeatureConfig, ModelConfig, TrainConfig
from emocluster_jax.feed.choice import Feed
from emocluster_jax.feed.split import AUDIO, Held, Inputs
from emocluster_jax.inference.forward import make_forward
from emocluster_jax.models.registry import network_of
from emocluster_jax.objectives.registry import stages_of
from emocluster_jax.runtime import parallel
from emocluster_jax.training.programs import Labels, StageArrays, StepRange, Trained, training_program
from emocluster_jax.training.state import create_train_state
from emocluster_jax.training.steps import empty_log, step_log


def cases(device: Device, quick: bool) -> list[Case]:
    """Two cases; the first one's ratio is the streamed throughput as a share of the resident one.

    The second one is what a streamed step takes beside computing, for a pool of the largest size and for a small one.
    """
    on_cpu = device.platform == "cpu"
    work = {"recordings": 64, "batch": 16, "steps": 2} if on_cpu else {"recordings": 5_000, "batch": 64, "steps": 75}
    pool, small = (50, 10) if quick else (500_000, 640)
    if quick:
        work = {"recordings": 3, "batch": 1, "steps": 1}
    work["eighths"] = 1 if quick else 8
    entry, calls = f"{__name__}:embedding_and_steps", f"{__name__}:calls_without_steps"
    return [
        Case(
            "feed",
            f"{work['recordings']} recordings embedded, {work['steps']} steps of {work['batch']}, streamed",
            Contender("emocluster_jax, streamed", entry, {**work, "feed": "streamed"}, keeps_memory=True),
            (Contender("emocluster_jax, resident", entry, {**work, "feed": "resident"}, keeps_memory=True),),
        ),
        Case(
            "feed",
            f"a call without a step, pool of {pool} recordings",
            Contender("emocluster_jax", calls, {"recordings": pool}, keeps_memory=True),
            (Contender(f"pool of {small} recordings", calls, {"recordings": small}, keeps_memory=True),),
        ),
    ]


def embedding_and_steps(recordings: int, batch: int, steps: int, eighths: int, feed: Feed) -> Prepared:
    """Records of noise, embedded and trained on; the reading of a resident split is over when this returns."""
    from emocluster_jax.benchmark.recordings import write_recordings
    from emocluster_jax.console import Console
    from emocluster_jax.corpora.utterance import Utterance
    from emocluster_jax.feed.from_records import load_split
    from emocluster_jax.records.preparation import read_preparation
    from emocluster_jax.records.writer import prepare

    folder = tempfile.TemporaryDirectory()
    data_dir = Path(folder.name) / "records"
    paths = write_recordings(Path(folder.name), recordings, 2.8)
    rows = [Utterance(f"{i:06d}", path, "train", attributes=(4.0, 4.0, 4.0)) for i, path in enumerate(paths)]
    console = Console(quiet=True)
    prepare(rows, data_dir, FeatureConfig(), "random", folder.name, 1, console)
    split = load_split(data_dir, read_preparation(data_dir), "train", console, feed=feed)
    config = ModelConfig(width_multiplier=eighths / 8)
    forward, training = make_forward(config, fast=True), _Training(config, recordings, steps, batch)

    def repeat() -> dict[str, float]:
        jax.block_until_ready(forward(training.trained.state.variables, split, lambda chunks: None))
        with split.draws(training.batches, together=1) as spans:
            for given, first, last in spans(0, steps):
                training.run(given, first, last)
        jax.block_until_ready(training.trained.log)
        return {}

    repeat()
    return Prepared(repeat, close=folder.cleanup)


def calls_without_steps(recordings: int) -> Prepared:
    """Calls of the training program, with a stage's labels and batches and a step's chunks, that take no step."""
    calls, features, batch = 100, FeatureConfig(), jax.device_count()
    training = _Training(ModelConfig(width_multiplier=1 / 8), recordings, -(-recordings // batch), batch)
    shape = (jax.local_device_count(), features.chunks_per_utterance, 1, features.chunk_frames, features.dimensions)
    given = {AUDIO: parallel.deal(np.zeros(shape, np.float16))}

    def repeat() -> dict[str, float]:
        for _ in range(calls):
            training.run(given, 0, 0)
        jax.block_until_ready(training.trained.log)
        return {}

    repeat()
    return Prepared(repeat, units=calls)


class _Training:
    """Stage II over random batches, with all that its steps need on the devices, as `run_stage` has it.

    Attributes:
      batches: (steps, chunks) int32.
      trained: the network and the steps' log, on every device.
    """

    def __init__(self, config: ModelConfig, recordings: int, steps: int, batch: int) -> None:
        training, features = TrainConfig(model=config), FeatureConfig()
        stage = stages_of(training, parallel.AXIS).labeled
        each, rng = features.chunks_per_utterance, np.random.default_rng(0)
        self._key = jax.random.key(0, impl="rbg")
        state = create_train_state(network_of(config), features, {stage.name: stage.optimizer}, self._key)
        self.batches = rng.integers(recordings * each, size=(steps, batch * each), dtype=np.int32)
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
