"""The networks by the names that `--model` knows: each is `NETWORK` in the module of that name in this package."""

from __future__ import annotations

import importlib
from typing import get_args

import flax.linen as nn

from emocluster_jax.config import ModelConfig, SystemName
from emocluster_jax.models.network import Network

NETWORKS: dict[SystemName, Network] = {
    name: importlib.import_module(f"emocluster_jax.models.{name}").NETWORK for name in get_args(SystemName)
}


def network_of(config: ModelConfig, axis_name: str | None = None) -> nn.Module:
    """The network that `config` describes.

    Args:
      config: names the system.
      axis_name: the mapped axis over which batch statistics are shared in training; None on a single device.
    """
    return NETWORKS[config.system].module(config, axis_name)
