"""The systems by the names that `--model` knows: each is `SYSTEM` in the module of that name in this package."""

from __future__ import annotations

import importlib
from typing import get_args

import flax.linen as nn

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


def stages_of(config: TrainConfig, axis_name: str | None = None) -> Stages:
    """The stages that `config` describes.

    Args:
      config: names the system.
      axis_name: the mapped axis that shares a batch; None on a single device.
    """
    network = network_of(config.model, axis_name)
    return SYSTEMS[config.model.system].stages(network, config, axis_name)
