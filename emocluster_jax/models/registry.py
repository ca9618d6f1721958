"""The networks by the names that `--model` knows: each is `NETWORK` in the module of that name in this package."""

from __future__ import annotations

import importlib
from functools import lru_cache
from typing import Any, get_args

import flax.linen as nn
import jax
import numpy as np

from emocluster_jax.config import Features, ModelConfig, SystemName
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


@lru_cache(maxsize=64)  # tracing the network takes longer than all the rest of reading a model
def variables_of(config: ModelConfig, features: Features) -> Any:
    """The network's variables, "params" and "batch_stats", as `jax.ShapeDtypeStruct`s.

    Args:
      config: describes the network.
      features: the shape of its chunks.
    """
    chunk = jax.ShapeDtypeStruct((1, features.chunk_frames, features.dimensions), np.float32)
    return jax.eval_shape(network_of(config).init, jax.random.key(0), chunk)
