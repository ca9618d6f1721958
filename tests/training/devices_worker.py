"""A small run whose results must not depend on how many devices share it; see test_devices.py.

python devices_worker.py OUTPUT.npz WORKDIR
"""

from __future__ import annotations

import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax

from emocluster_jax.config import ClusteringConfig, TrainConfig
from emocluster_jax.console import Console
from emocluster_jax.feed.split import ResidentSplit
from emocluster_jax.models.registry import network_of
from emocluster_jax.objectives.stage import Stage, stages_of
from emocluster_jax.runtime import parallel
from emocluster_jax.training.loop import fit
from emocluster_jax.training.steps import (
    LOGGED_STEPS,
    Step,
    StepArrays,
    StepLog,
    Trained,
    clustering_program,
    create_train_state,
    empty_log,
    step_log,
    training_program,
)
from small_training import FEATURES, MODEL, make_data

BATCH = 16


def one_joint_step(split: ResidentSplit) -> dict[str, np.ndarray]:
    """Losses, gradients and batch statistics of one joint step."""
    joint = stages_of(TrainConfig(model=MODEL), parallel.AXIS).labeled
    # With no decay, the "trace" of a gradient is the gradient itself: the optimiser's state tells it.
    stage = Stage(joint.name, joint.loss, optax.trace(decay=0.0))
    state = create_train_state(
        network_of(MODEL), FEATURES, {stage.name: stage.optimizer}, jax.random.key(1, impl="rbg")
    )
    values = split.labels.of(("arousal", "valence"))
    pseudo_labels = (np.arange(split.chunk_count) % MODEL.clusters).astype(np.int32)
    batches = np.random.default_rng(0).permutation(split.chunk_count)[None, :BATCH].astype(np.int32)
    logged = StepLog(step_log(TrainConfig(model=MODEL), FEATURES, stage.name).terms, {"gradient_norm": np.float32(0)})
    trained = parallel.replicate(Trained(state, empty_log(logged, LOGGED_STEPS)))
    with split.draws(batches, 1) as rows:
        given = next(rows)
    chunks = batches.reshape(jax.local_device_count(), -1)
    arrays = StepArrays(given, pseudo_labels[chunks], (values - 4)[chunks // split.chunks_per_utterance])
    step = Step(jax.random.key(0, impl="rbg"), np.int32(0), np.float32(0))
    state, log = parallel.first_replica(training_program(stage)(trained, arrays, step))
    log = jax.tree.map(lambda values: values[:1], log)
    tree = {**log._asdict(), "gradients": state.optimizer_states, "batch_stats": state.batch_stats}
    leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
    return {"step/" + jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in leaves}


def clusters() -> dict[str, np.ndarray]:
    """K-means over 203 points, which no number of devices above one divides."""
    points = np.random.default_rng(3).normal(size=(203, 8)).astype(np.float32)
    program = clustering_program(ClusteringConfig(), MODEL.clusters, len(points))
    _, result = program((), jnp.asarray(parallel.shard(points, len(points))), jax.random.key(2))
    return {
        "kmeans/centroids": parallel.first_replica(result.centroids),
        "kmeans/objective": parallel.first_replica(result.objective),
        "kmeans/assignments": parallel.collect(result.assignments, len(points)),
    }


if __name__ == "__main__":
    data = make_data()
    results = one_joint_step(data.train) | clusters()
    fit(TrainConfig(model=MODEL, epochs=1, batch_size=4), data, Path(sys.argv[2]), Console(quiet=True))
    shares = [shard.data.shape[1] for shard in data.train.inputs["audio"].addressable_shards]
    np.savez(sys.argv[1], **results, recordings_by_device=np.array(shares))
