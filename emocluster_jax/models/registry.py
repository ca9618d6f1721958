"""The networks by name, as `--model` takes it: each is `NETWORK` in the module of that name in this package."""

from __future__ import annotations

import importlib
from functools import lru_cache
from typing import Any, get_args

import jax

from emocluster_jax.config import Features, ModelConfig, SystemName
from emocluster_jax.models.network import Network, example_inputs

NETWORKS: dict[SystemName, type[Network]] = {
    name: importlib.import_module(f"emocluster_jax.models.{name}").NETWORK for name in get_args(SystemName)
}


def network_of(config: ModelConfig, axis_name: str | None = None) -> Network:
    """The network that `config` describes; with an `axis_name`, devices share batch statistics in training."""
    return NETWORKS[config.system](config, axis_name)


def trains_on_recordings(config: ModelConfig) -> bool:
    """Whether batches consist of whole recordings, with their chunks in order, instead of single chunks."""
    return NETWORKS[config.system].whole_recordings or config.temporal != "none"


@lru_cache(maxsize=64)  # tracing the network takes longer than all the rest of reading a model
def variables_of(config: ModelConfig, features: Features) -> Any:
    """The network's variables, "params" and "batch_stats", as `jax.ShapeDtypeStruct`s."""
    network = network_of(config)
    return jax.eval_shape(network.init, jax.random.key(0), example_inputs(network.inputs, features))
