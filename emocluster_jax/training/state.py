"""The state of training: parameters, batch statistics and the optimisers' moments."""

from __future__ import annotations

from functools import partial
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array

from emocluster_jax.config import Features
from emocluster_jax.corpora.inputs import InputSizes
from emocluster_jax.feed.split import Inputs
from emocluster_jax.models.encoder import dense_init
from emocluster_jax.models.network import Network, example_inputs
from emocluster_jax.objectives.optimizers import CLUSTER_HEAD


@flax.struct.dataclass
class TrainState:
    """All that a training step reads and replaces; optimisers' states are by name of their stage."""

    params: Any
    batch_stats: Any
    optimizer_states: dict[str, optax.OptState]

    @property
    def variables(self) -> dict[str, Any]:
        """The network's variables."""
        return {"params": self.params, "batch_stats": self.batch_stats}


def create_train_state(
    network: Network,
    features: Features,
    optimizers: dict[str, optax.GradientTransformation],
    key: Array,
    further: InputSizes = (),
) -> TrainState:
    """Freshly drawn parameters, and the initial states of the optimisers, which are given by name of their stage.

    `features` and the sizes of `further` inputs give the shapes.
    """
    zeros = jax.tree.map(lambda given: jnp.zeros(given.shape, given.dtype), example_inputs(features, further))
    variables = _draw(network, key, zeros)
    params = variables["params"]
    states = {name: optimizer.init(params) for name, optimizer in optimizers.items()}
    return TrainState(params, variables["batch_stats"], states)


@partial(jax.jit, static_argnums=0)
def _draw(network: Network, key: Array, inputs: Inputs) -> Any:
    return network.init(key, inputs)


def redraw_cluster_head(params: Any, key: Array) -> Any:
    """`params` with a new last layer of the cluster classifier: cluster numbers mean nothing across clusterings."""
    classifier, output = CLUSTER_HEAD
    old = params[classifier][output]
    new = {"kernel": dense_init(key, old["kernel"].shape), "bias": jnp.zeros_like(old["bias"])}
    return {**params, classifier: {**params[classifier], output: new}}
