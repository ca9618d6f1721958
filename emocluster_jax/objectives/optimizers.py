"""The two stages' optimisers: summed updates from one gradient, by layer.

The published method updates the network with several optimisers at once. Stage I: SGD on the encoder and the cluster
classifier, with a separate rate for the classifier's last layer. Stage II: the sum of SGD's and Adam's updates on
everything else, including the regressor, and SGD with that separate rate on the last layer.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import optax

from emocluster_jax.config import OptimizerConfig

CLUSTER_HEAD = ("cluster_classifier", "output")
REGRESSOR = "attribute_regressor"


class Optimizer(NamedTuple):
    """How a stage's gradient becomes an update, and the learning rates by group of parameters, for the log."""

    transformation: optax.GradientTransformation
    learning_rates: dict[str, float]


def adam(config: OptimizerConfig) -> Optimizer:
    """Adam (Kingma & Ba 2015) on all parameters."""
    return Optimizer(optax.adam(config.adam_learning_rate), {"adam": config.adam_learning_rate})


def layer_labels(params: Any, freeze_regressor: bool) -> Any:
    """For every parameter the group that it is updated with: "head", "frozen" or "body"."""

    def label(path: tuple[Any, ...], _: Any) -> str:
        names = tuple(key.key for key in path)
        if names[:2] == CLUSTER_HEAD:
            return "head"
        return "frozen" if freeze_regressor and names[0] == REGRESSOR else "body"

    return jax.tree_util.tree_map_with_path(label, params)


def summed(*transformations: optax.GradientTransformation) -> optax.GradientTransformation:
    """A transformation that sums the updates that the given ones make of the same gradient."""

    def init(params: Any) -> Any:
        return tuple(transformation.init(params) for transformation in transformations)

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        results = [t.update(updates, own, params) for t, own in zip(transformations, state, strict=True)]
        found, states = zip(*results, strict=True)
        return jax.tree.map(lambda *parts: sum(parts), *found), states

    return optax.GradientTransformation(init, update)


def stage_one_optimizer(config: OptimizerConfig) -> Optimizer:
    """Plain SGD; stateless. Stage I leaves the regressor as it is."""
    rate = config.sgd_learning_rate
    return _by_layer(config, optax.sgd(rate), {"sgd": rate}, freeze_regressor=True)


def stage_two_optimizer(config: OptimizerConfig) -> Optimizer:
    """SGD plus Adam (Kingma & Ba 2015); its state, Adam's moments, is kept across epochs."""
    sgd, adam = config.sgd_learning_rate, config.adam_learning_rate
    body = summed(optax.sgd(sgd), optax.adam(adam))
    return _by_layer(config, body, {"sgd": sgd, "adam": adam}, freeze_regressor=config.freeze_regressor)


def _by_layer(
    config: OptimizerConfig, body: optax.GradientTransformation, rates: dict[str, float], *, freeze_regressor: bool
) -> Optimizer:
    head = config.cluster_head_learning_rate
    transformation = optax.partition(
        {"body": body, "head": optax.sgd(head), "frozen": optax.set_to_zero()},
        lambda params: layer_labels(params, freeze_regressor),
    )
    return Optimizer(transformation, {**rates, "cluster_head": head})
