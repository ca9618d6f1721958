"""The networks by name, as `--model` takes it: each is `NETWORK` in the module of that name in this package."""

from __future__ import annotations

import importlib
from functools import lru_cache
from typing import Any, get_args

import jax

from emocluster_jax.config import Features, ModelConfig, SystemName, TrainLayers
from emocluster_jax.corpora.inputs import FurtherInputs, names_of
from emocluster_jax.errors import InputError
from emocluster_jax.models.network import Network, example_inputs

NETWORKS: dict[SystemName, type[Network]] = {
    name: importlib.import_module(f"emocluster_jax.models.{name}").NETWORK for name in get_args(SystemName)
}


def network_of(config: ModelConfig, axis_name: str | None = None, train_layers: TrainLayers = "all") -> Network:
    """The network that `config` describes; in training, devices share batch statistics over the `axis_name`, if any."""
    return NETWORKS[config.system](config, axis_name, train_layers)


def further_inputs(config: ModelConfig, available: FurtherInputs, where: str) -> FurtherInputs:
    """The further inputs that the network reads, of those that are available.

    Raises InputError if one is missing; `where` says what should have it.
    """
    for name in config.inputs:
        if name not in (there := names_of(available)):
            has = ", ".join(there) or "none beside the audio"
            raise InputError(f"`inputs` names {name}; {where} has {has}; prepare recordings with it, or leave it out")
    return tuple(given for given in available if given.name in config.inputs)


@lru_cache(maxsize=64)  # tracing the network takes longer than all the rest of reading a model
def variables_of(config: ModelConfig, features: Features, further: FurtherInputs = ()) -> Any:
    """The variables of a network with these further inputs, "params" and "batch_stats", as `jax.ShapeDtypeStruct`s."""
    return jax.eval_shape(network_of(config).init, jax.random.key(0), example_inputs(features, further))
