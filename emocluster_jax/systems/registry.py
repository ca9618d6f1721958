"""The systems by the names that `--model` knows: each is `SYSTEM` in the module of that name in this package."""

from __future__ import annotations

import dataclasses
import importlib
from typing import Any, get_args

import flax.linen as nn
import jax
from jaxtyping import Array, Float

from emocluster_jax.config import ModelConfig, SystemName, TrainConfig
from emocluster_jax.systems.system import Stages, System

SYSTEMS: dict[SystemName, System] = {
    name: importlib.import_module(f"emocluster_jax.systems.{name}").SYSTEM for name in get_args(SystemName)
}


def network_of(config: ModelConfig, axis_name: str | None = None) -> nn.Module:
    """The network that `config` describes.

    Args:
      config: names the system.
      axis_name: the mapped axis over which batch statistics are shared in training; None on a single device.
    """
    return SYSTEMS[config.system].network(config, axis_name)


def full_precision_outputs(config: ModelConfig, variables: Any, chunks: Float[Array, "n time mel"]) -> Any:
    """What the network in evaluation mode says of chunks, in full float32 whatever it was trained in.

    All that people read or keep comes from here: GPUs and TPUs round float32 operands otherwise, and a model's numbers
    should not depend on where it runs.

    Args:
      config: describes the network.
      variables: of the network.
      chunks: normalised.

    Returns:
      The network's own output, with `embeddings` and `attributes` at least.
    """
    with jax.default_matmul_precision("highest"):
        return network_of(dataclasses.replace(config, compute_dtype="float32")).apply(variables, chunks)


def stages_of(config: TrainConfig, axis_name: str | None = None) -> Stages:
    """The stages that `config` describes.

    Args:
      config: names the system.
      axis_name: the mapped axis that shares a batch; None on a single device.
    """
    network = network_of(config.model, axis_name)
    return SYSTEMS[config.model.system].stages(network, config, axis_name)
