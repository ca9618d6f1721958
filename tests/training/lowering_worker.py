"""Lowers every compiled program for accelerators that are not there and prints what came of it as JSON.

Run with several virtual devices, so that the programs hold their collectives; see test_lowering.py.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from functools import cache
from typing import Any, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jax import ShapeDtypeStruct, export

from emocluster_jax.clustering.embedding_transform import EmbeddingTransform
from emocluster_jax.config import ClusteringConfig, FeatureConfig, ModelConfig, SystemName, TrainConfig
from emocluster_jax.corpora.inputs import FurtherInput, FurtherInputs
from emocluster_jax.feed.split import block_program, draw_program, mask_name
from emocluster_jax.inference.forward import Forward, make_forward
from emocluster_jax.inference.predictor import Predictor
from emocluster_jax.models.registry import NETWORKS, network_of
from emocluster_jax.objectives.stage import stages_of
from emocluster_jax.runtime import parallel
from emocluster_jax.runtime.platforms import for_every_platform
from emocluster_jax.training.steps import (
    LOGGED_STEPS,
    Step,
    StepArrays,
    Trained,
    TrainState,
    clustering_program,
    create_train_state,
    empty_log,
    redraw_head_program,
    step_log,
    training_program,
)
from small_models import small_model
from small_training import FEATURES

PLATFORMS = ("tpu", "cuda")
KERNELS = "__gpu$xla.gpu.triton"
OTHERS = tuple(name for name in get_args(SystemName) if name != "emocluster")
UTTERANCES = 4  # a device
LENGTH = 6  # of a vector
CHUNKS = UTTERANCES * FEATURES.chunks_per_utterance

Program = tuple[Callable[..., Any], tuple[Any, ...]]


def on_devices(tree: Any) -> Any:
    """The shapes of what lies on every device."""
    return jax.tree.map(lambda x: ShapeDtypeStruct((jax.local_device_count(), *x.shape), x.dtype), tree)


def recordings(
    count: int, chunks: int, dtype: Any = np.float16, further: tuple[str, ...] = ()
) -> dict[str, ShapeDtypeStruct]:
    """Of every device."""
    shape = (count, chunks, FEATURES.chunk_frames, FEATURES.mel_bands)
    inputs = {"audio": ShapeDtypeStruct(shape, dtype)}
    for name in further:
        inputs[name] = ShapeDtypeStruct((count, LENGTH), np.float32)
        inputs[mask_name(name)] = ShapeDtypeStruct((count,), np.float32)
    return on_devices(inputs)


def sizes_of(config: ModelConfig) -> FurtherInputs:
    return tuple(FurtherInput(name, LENGTH) for name in config.inputs)


def of_splits() -> dict[str, Program]:
    """What moves chunks of a split to the networks' programs."""
    split, batch = recordings(UTTERANCES, FEATURES.chunks_per_utterance), np.zeros(16, np.int32)
    return {
        "block of a split": (block_program(5), ((), split, np.int32(0))),
        "batch of a split": (draw_program(1), ((), split, batch)),
    }


@cache  # tracing it takes long, and every program of a network wants it
def training_state(config: ModelConfig) -> TrainState:
    stages = stages_of(TrainConfig(model=config))
    optimizers = {stage.name: stage.optimizer for stage in stages if stage is not None}
    network = network_of(config)
    return on_devices(
        jax.eval_shape(
            lambda key: create_train_state(network, FEATURES, optimizers, key, sizes_of(config)),
            jax.random.key(0, impl="rbg"),
        )
    )


def training(config: ModelConfig) -> dict[str, Program]:
    network = NETWORKS[config.system]
    each = FEATURES.chunks_per_utterance if network.whole_recordings else 1
    clusters = ShapeDtypeStruct((2 * each,), np.int32) if network.clusters else None
    targets = ShapeDtypeStruct((2 * each, len(config.attributes)), np.float32)
    arrays = StepArrays(recordings(2, each, further=config.inputs), *on_devices((clusters, targets)))
    step = Step(jax.random.key(0, impl="rbg"), np.int32(0), np.float32(0))
    found = {}
    for title, stage in zip(("stage I", "stage II"), stages_of(TrainConfig(model=config), parallel.AXIS), strict=True):
        if stage is not None:
            log = empty_log(step_log(TrainConfig(model=config), FEATURES, stage.name, sizes_of(config)), LOGGED_STEPS)
            trained = Trained(training_state(config), on_devices(log))
            found[f"{title}, {config.compute_dtype}"] = training_program(stage), (trained, arrays, step)
    return found


def forward_pass(kind: str, config: ModelConfig, forward: Forward) -> dict[str, Program]:
    given = recordings(UTTERANCES, FEATURES.chunks_per_utterance, further=config.inputs)
    arrays = training_state(config).variables, given
    return {f"{kind}, {config.system} {config.compute_dtype}": (forward.program, ((), arrays, (0, UTTERANCES)))}


def embedding(config: ModelConfig) -> dict[str, Program]:
    """What K-means clusters in training."""
    return forward_pass("embedding", config, make_forward(config, fast=True))


def evaluation(config: ModelConfig) -> dict[str, Program]:
    """Validation, and the evaluation of a model."""
    return forward_pass("evaluation", config, make_forward(config))


def clustering(name: str, **settings: Any) -> dict[str, Program]:
    embeddings = on_devices(ShapeDtypeStruct((CHUNKS, 32), np.float32))
    program = clustering_program(ClusteringConfig(**settings), 5, CHUNKS * jax.device_count() - 3)
    return {f"K-means, {name}": (program, ((), embeddings, jax.random.key(0)))}


def prediction(name: str, **changes: Any) -> dict[str, Program]:
    features = FeatureConfig()
    chunks = ShapeDtypeStruct((22, features.chunk_frames, features.mel_bands), np.float32)
    return {f"prediction, {name}": (Predictor(small_model(**changes)).forward, (chunks,))}


def other_system(system: SystemName) -> dict[str, Program]:
    """Its second stage, and how it is evaluated and predicts."""
    config = ModelConfig(system=system, width_multiplier=0.125)
    name = f"stage II, {config.compute_dtype}"
    evaluated = f"evaluation, {system} {config.compute_dtype}"
    return {
        f"stage II, {system}": training(config)[name],
        evaluated: evaluation(config)[evaluated],
        **prediction(system, system=system),
    }


def programs() -> dict[str, Program]:
    wide = ModelConfig(attributes=("arousal", "valence"), clusters=5, width_multiplier=0.125)
    half = ModelConfig(clusters=5, width_multiplier=0.125, compute_dtype="bfloat16")
    # Of the published width: narrower layers have no kernels.
    fused = ModelConfig(clusters=5, compute_dtype="bfloat16", convolutions="fused")
    with_text = ModelConfig(clusters=5, width_multiplier=0.125, inputs=("text",))
    components = EmbeddingTransform(jnp.zeros(32), jnp.zeros((32, 8)))
    projected = ClusteringConfig(pca_components=8, whiten=True, l2_normalize=True)
    return {
        **of_splits(),
        **training(wide),
        **training(half),
        **{f"{name}, fused": program for name, program in training(fused).items()},
        **{f"{name}, with text": program for name, program in (training(with_text) | evaluation(with_text)).items()},
        **embedding(wide),
        **embedding(half),
        **evaluation(wide),
        **evaluation(half),
        "new cluster head": (redraw_head_program(), (training_state(wide), (), jax.random.key(0, impl="rbg"))),
        **clustering("random"),
        **clustering("k-means++", initialization="kmeans++"),
        **clustering("principal components", pca_components=8, whiten=True, l2_normalize=True),
        **prediction("centroids"),
        **prediction("no centroids", centroids=None),
        **prediction("bfloat16", config=half, centroids=None),
        **{name: program for system in OTHERS for name, program in other_system(system).items()},
        **prediction(
            "principal components",
            clustering=projected,
            transform=components,
            centroids=np.zeros((5, 8), np.float32),
        ),
    }


def lowered(program: Program, platform: str) -> dict[str, Any]:
    function, arguments = program
    try:
        # Whether another version of JAX reads it does not matter here.
        unchecked = [export.DisabledSafetyCheck.custom_call(KERNELS)]
        exported = export.export(jax.jit(function), platforms=[platform], disabled_checks=unchecked)(*arguments)
    except Exception as error:
        return {"error": f"{type(error).__name__}: {error}"}
    text = exported.mlir_module()
    operations = ("convolution", "dot_general", "reduce_scatter", "all_reduce")
    return {"devices": exported.nr_devices, "products": products(text), "kernels": text.count(KERNELS)} | {
        name: f"stablehlo.{name}" in text for name in operations
    }


def products(text: str) -> list[list[str]]:
    """By convolution and product, what its operands are and how they are multiplied, each once."""
    found = []
    for line in text.splitlines():
        if "stablehlo.convolution(" in line or "stablehlo.dot_general " in line:
            operands = re.search(r": \((tensor<.*?>), (tensor<.*?>)\) ->", line)
            assert operands is not None, line
            types = {re.sub(r"tensor<(\d+x)*|>", "", operand) for operand in operands.groups()}
            found.append(sorted(types | (set(re.findall(r"HIGHEST|HIGH|DEFAULT", line)) or {"DEFAULT"})))
    return found


if __name__ == "__main__":
    with for_every_platform():
        found = {name: {p: lowered(program, p) for p in PLATFORMS} for name, program in programs().items()}
    print(json.dumps(found))
