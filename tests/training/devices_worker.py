"""A small run whose results must not depend on how many devices share it; see test_devices.py.

python devices_worker.py OUTPUT.npz WORKDIR
"""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array, lax

from emocluster_jax.config import ClusteringConfig, ModelConfig, TrainConfig
from emocluster_jax.console import Console
from emocluster_jax.corpora.inputs import FurtherInputs
from emocluster_jax.evaluation.by_input import clusters_alone
from emocluster_jax.feed.split import OneInput, ResidentSplit
from emocluster_jax.inference.forward import chunk_attributes, make_forward
from emocluster_jax.models.emocluster_cnn import ChunkConvolutions
from emocluster_jax.models.fusion import with_statistics
from emocluster_jax.models.registry import NETWORKS, network_of
from emocluster_jax.objectives.stage import Stage, stages_of
from emocluster_jax.runtime import parallel
from emocluster_jax.training.input_statistics import input_statistics
from emocluster_jax.training.loop import fit
from emocluster_jax.training.steps import (
    LOGGED_STEPS,
    Step,
    StepArrays,
    StepLog,
    Trained,
    TrainState,
    clustering_program,
    create_train_state,
    empty_log,
    step_log,
    training_program,
)
from small_models import small_model
from small_training import FEATURES, FURTHER, MODEL, make_data, make_split

BATCH = 16


def further_inputs(model: ModelConfig) -> FurtherInputs:
    return tuple(FURTHER[name] for name in model.inputs)


def fresh_state(split: ResidentSplit, model: ModelConfig, optimizers: dict[str, Any], key: Array) -> TrainState:
    """A state that normalises further inputs by the split."""
    state = create_train_state(network_of(model), FEATURES, optimizers, key, further_inputs(model))
    if not model.inputs:
        return state
    statistics = input_statistics(split, model.inputs, "train")
    return dataclasses.replace(state, batch_stats=with_statistics(state.batch_stats, statistics))


def one_step(split: ResidentSplit, config: TrainConfig, number: int) -> dict[str, np.ndarray]:
    """Losses, gradients and batch statistics of one step of a stage."""
    model, chosen = config.model, stages_of(config, parallel.AXIS)[number]
    assert chosen is not None
    # With no decay, the "trace" of a gradient is the gradient itself: the optimiser's state tells it.
    stage = Stage(chosen.name, chosen.loss, optax.trace(decay=0.0))
    state = fresh_state(split, model, {stage.name: stage.optimizer}, jax.random.key(1, impl="rbg"))
    values = split.labels.of(("arousal", "valence"))
    pseudo_labels = (np.arange(split.chunk_count) % MODEL.clusters).astype(np.int32)
    each = split.chunks_per_utterance if NETWORKS[model.system].whole_recordings else 1
    units = np.random.default_rng(0).permutation(split.chunk_count // each)[:BATCH]
    batches = (units[:, None] * each + np.arange(each)).reshape(1, -1).astype(np.int32)
    logged = StepLog(
        step_log(config, FEATURES, stage.name, further_inputs(model)).terms, {"gradient_norm": np.float32(0)}
    )
    trained = parallel.replicate(Trained(state, empty_log(logged, LOGGED_STEPS)))
    with split.draws(batches, each) as rows:
        given = next(rows)
    chunks = batches.reshape(jax.local_device_count(), -1)
    recordings = chunks // split.chunks_per_utterance
    classes: Any = np.stack([recordings % 5, recordings % 3, recordings % 4 - 1], axis=-1).astype(np.int32)
    arrays = StepArrays(given, pseudo_labels[chunks], (values - 4)[recordings], classes)
    step = Step(jax.random.key(0, impl="rbg"), np.int32(0), np.float32(0))
    state, log = parallel.first_replica(training_program(stage)(trained, arrays, step))
    log = jax.tree.map(lambda values: values[:1], log)
    tree = {**log._asdict(), "gradients": state.optimizer_states, "batch_stats": state.batch_stats}
    leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
    return {f"{model.system}/" + jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in leaves}


def convolutions_over_chunks() -> dict[str, np.ndarray]:
    """Gradients and batch statistics of a temporal network that shares these over the devices."""
    network = ChunkConvolutions(dataclasses.replace(MODEL, temporal_dropout_rate=0.0), parallel.AXIS)
    shared = np.random.default_rng(4).normal(size=(BATCH, 4, 32)).astype(np.float32)
    variables = parallel.replicate(ChunkConvolutions(MODEL).init(jax.random.key(0), jnp.asarray(shared), train=False))

    def run(variables: Any, shared: Array, _: tuple[()]) -> Any:
        def loss(params: Any) -> tuple[Array, Any]:
            output, updated = network.apply({**variables, "params": params}, shared, train=True, mutable="batch_stats")
            return jnp.mean((output - 1) ** 2), updated

        gradients, updated = jax.grad(loss, has_aux=True)(variables["params"])
        return lax.pmean(gradients, parallel.AXIS), updated

    found = parallel.first_replica(parallel.parallel(run)(variables, parallel.shard(shared, BATCH), ()))
    leaves = jax.tree_util.tree_flatten_with_path(found)[0]
    return {"convolutions" + jax.tree_util.keystr(path): leaf for path, leaf in leaves}


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


def with_further_inputs() -> dict[str, np.ndarray]:
    """A step on audio, frames and vectors, and their statistics, of which most devices have but one or two."""
    split = make_split(25, seed=6, further=tuple(FURTHER))
    config = TrainConfig(model=dataclasses.replace(MODEL, inputs=tuple(FURTHER))).for_system("cnn_regressor")
    state = fresh_state(split, config.model, {}, jax.random.key(1))
    forward, variables = make_forward(config.model), parallel.replicate(state.variables)
    found = {}
    for name, (mean, std) in input_statistics(split, tuple(FURTHER), "train").items():
        outputs = forward(variables, OneInput.of(split, name), lambda _: None)
        alone = chunk_attributes(outputs, split)
        found |= {f"{name}/mean": mean, f"{name}/std": std, f"{name}/alone": alone}
    centroids = parallel.collect(outputs.embeddings, split.chunk_count)[::8][: MODEL.clusters]  # of five recordings
    model = small_model(config.model.attributes, features=FEATURES, centroids=centroids, variables=state.variables)
    model = dataclasses.replace(model, config=config.model, inputs=further_inputs(config.model))
    clustered = clusters_alone(model, split, Console(quiet=True))["text"]
    assert len(np.unique(clustered.clusters)) == MODEL.clusters
    clusters = {f"text/{name}": values for name, values in clustered._asdict().items()}
    return one_step(split, config, 1) | found | clusters


if __name__ == "__main__":
    data = make_data()
    triplets = dataclasses.replace(MODEL, system="emocluster_triplet", dropout_rate=ModelConfig.dropout_rate)
    informed = TrainConfig(model=MODEL, information_weight=2.0, speaker_information_weight=3.0)
    steps = one_step(data.train, informed, 1) | one_step(data.train, TrainConfig(model=triplets), 0)
    results = steps | with_further_inputs() | convolutions_over_chunks() | clusters()
    fit(TrainConfig(model=MODEL, epochs=1, batch_size=4), data, Path(sys.argv[2]), Console(quiet=True))
    shares = [shard.data.shape[1] for shard in data.train.inputs["audio"].addressable_shards]
    np.savez(sys.argv[1], **results, recordings_by_device=np.array(shares))
