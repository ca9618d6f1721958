"""The two stages' optimisers: summed updates from one gradient, by layer.

The published method updates the network with several optimisers at once. Stage I: SGD on the encoder and the cluster
classifier, with a rate of its own for the classifier's last layer. Stage II: SGD and Adam, their updates summed, on
everything but that layer, regressor included; SGD with its own rate on it.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import optax

from emocluster_jax.config import OptimizerConfig

CLUSTER_HEAD = ("cluster_classifier", "output")
REGRESSOR = ("attribute_regressor",)


class Optimizer(NamedTuple):
    """How a stage's gradient becomes an update.

    Attributes:
      transformation: of the gradient.
      learning_rates: by group of parameters, for the log.
    """

    transformation: optax.GradientTransformation
    learning_rates: dict[str, float]


def adam(config: OptimizerConfig) -> Optimizer:
    """Adam (Kingma & Ba 2015) on all parameters."""
    return Optimizer(optax.adam(config.adam_learning_rate), {"adam": config.adam_learning_rate})


def layer_labels(params: Any, freeze_regressor: bool) -> Any:
    """Names for every parameter the group that updates it: "head", "frozen" or "body".

    Args:
      params: the network's parameters.
      freeze_regressor: whether the attribute regressor is left as it is.
    """

    def label(path: tuple[Any, ...], _: Any) -> str:
        names = tuple(key.key for key in path)
        if names[: len(CLUSTER_HEAD)] == CLUSTER_HEAD:
            return "head"
        return "frozen" if freeze_regressor and names[: len(REGRESSOR)] == REGRESSOR else "body"

    return jax.tree_util.tree_map_with_path(label, params)


def summed(*transformations: optax.GradientTransformation) -> optax.GradientTransformation:
    """One transformation whose update is the sum of what the given ones make of the same gradient."""

    def init(params: optax.Params) -> optax.OptState:
        return tuple(transformation.init(params) for transformation in transformations)

    def update(
        updates: optax.Updates, state: optax.OptState, params: optax.Params | None = None
    ) -> tuple[optax.Updates, optax.OptState]:
        states: tuple[optax.OptState, ...] = state  # type: ignore[assignment]
        results = [t.update(updates, own, params) for t, own in zip(transformations, states, strict=True)]
        total = jax.tree.map(lambda *parts: sum(parts), *(part for part, _ in results))
        return total, tuple(own for _, own in results)

    return optax.GradientTransformation(init, update)


def stage_one_optimizer(config: OptimizerConfig) -> Optimizer:
    """Plain SGD; stateless. The regressor takes no part in stage I."""
    transformation = optax.partition(
        {
            "body": optax.sgd(config.sgd_learning_rate),
            "head": optax.sgd(config.cluster_head_learning_rate),
            "frozen": optax.set_to_zero(),
        },
        lambda params: layer_labels(params, freeze_regressor=True),
    )
    return Optimizer(
        transformation, {"sgd": config.sgd_learning_rate, "cluster_head": config.cluster_head_learning_rate}
    )


def stage_two_optimizer(config: OptimizerConfig) -> Optimizer:
    """SGD plus Adam (Kingma & Ba 2015); its state, Adam's moments, lives across epochs."""
    transformation = optax.partition(
        {
            "body": summed(optax.sgd(config.sgd_learning_rate), optax.adam(config.adam_learning_rate)),
            "head": optax.sgd(config.cluster_head_learning_rate),
            "frozen": optax.set_to_zero(),
        },
        lambda params: layer_labels(params, freeze_regressor=config.freeze_regressor),
    )
    rates = {"sgd": config.sgd_learning_rate, "adam": config.adam_learning_rate}
    return Optimizer(transformation, {**rates, "cluster_head": config.cluster_head_learning_rate})
