"""The network in evaluation mode over a split, as at the start of each stage."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax

from emocluster_jax.benchmark.bandwidth import floor_seconds, forward_bytes
from emocluster_jax.benchmark.cases import Case, Device, Prepared, ours
from emocluster_jax.benchmark.compilation import compile_times
from emocluster_jax.benchmark.peers import torch_contenders
from emocluster_jax.benchmark.train_suite import labelled_split
from emocluster_jax.config import FeatureConfig, ModelConfig
from emocluster_jax.feed.split import Held
from emocluster_jax.inference.forward import Outputs, make_forward
from emocluster_jax.models.emocluster import EmoCluster
from emocluster_jax.models.encoder import DENSE_WIDTH, scaled_width
from emocluster_jax.runtime import parallel
from emocluster_jax.training.state import create_train_state


def cases(device: Device, quick: bool) -> list[Case]:
    """A small set and a larger one, on accelerators also in bfloat16; then one chunk of ever larger sets."""
    on_cpu = device.platform == "cpu"
    sizes = (2,) if quick else (32, 128) if on_cpu else (32, 10_000)
    types = ("float32",) if on_cpu else ("float32", "bfloat16")
    width = {"width_multiplier": 0.125 if quick else 1.0}
    return [
        Case(
            "embed",
            f"{11 * recordings} chunks, {dtype}",
            ours(embedding, {"recordings": recordings, "compute_dtype": dtype, **width}),
            torch_contenders("torch_training:embedding", {"recordings": recordings, **width}, device, quick),
        )
        for recordings in sizes
        for dtype in types
    ] + [
        Case(
            "embed",
            f"a chunk of {11 * recordings:,}, an eighth of the width",
            ours(embedding_of_one, {"recordings": recordings}),
        )
        for recordings in (() if quick else (91, 909, 9_091) if on_cpu else (91, 909, 9_091, 90_909))
    ]


def embedding_of_one(recordings: int) -> Prepared:
    """A narrow network over this many recordings; seconds are per chunk."""
    prepared = embedding(recordings, "float32", 0.125)
    return dataclasses.replace(prepared, units=recordings * FeatureConfig().chunks_per_utterance)


def embedding(recordings: int, compute_dtype: Any, width_multiplier: float) -> Prepared:
    """This project's side: embeddings of a split that lies on the devices."""
    config = ModelConfig(compute_dtype=compute_dtype, width_multiplier=width_multiplier)
    split = labelled_split(recordings, seed=0)
    state = create_train_state(EmoCluster(config), FeatureConfig(), {}, jax.random.key(0, impl="rbg"))
    variables = parallel.replicate(state.variables)
    forward = make_forward(config, fast=True)

    def run() -> None:
        jax.block_until_ready(forward(variables, split, lambda chunks: None))

    def no_block() -> None:
        outputs = Outputs(
            parallel.zeros((split.chunk_count, scaled_width(DENSE_WIDTH, config))),
            parallel.zeros((split.chunk_count, len(config.attributes))),
        )
        forward.program(outputs, (variables, Held(split.inputs)), (0, 0))

    compile_seconds, cached = compile_times(no_block)
    run()
    return Prepared(run, 1, compile_seconds, cached, floor_seconds(forward_bytes(config, split.chunk_count)))
