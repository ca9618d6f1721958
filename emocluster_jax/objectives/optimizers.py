"""The two stages' optimisers: updates from one gradient, by layer.

The published method updates the network with several optimisers at once. Stage I: SGD on the encoder and the cluster
classifier, with a separate rate for the classifier's last layer. Stage II: the sum of SGD's and Adam's updates on
everything else, including the regressor, and SGD with that separate rate on the last layer. AdamW takes the place of
SGD and Adam where `algorithm` asks for it; the last layer, which may be drawn anew, keeps SGD.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from emocluster_jax.config import OptimizerConfig
from emocluster_jax.models.fusion import FUSION
from emocluster_jax.objectives.losses import ramp

ENCODER = "encoder"
TEMPORAL = "temporal"
"""The network over a recording's chunks, which reads the encoder's output before the heads do."""
CLUSTER_HEAD = ("cluster_classifier", "output")
REGRESSOR = "attribute_regressor"


class Optimizer(NamedTuple):
    """How a stage's gradient becomes an update, and the learning rates by group of parameters, for the log."""

    transformation: optax.GradientTransformation
    learning_rates: dict[str, float]


def adam(config: OptimizerConfig) -> Optimizer:
    """Adam (Kingma & Ba 2015), or AdamW, on all parameters."""
    return _by_layer(config, *_adaptive(config), clusters=False)


def rate_scale(config: OptimizerConfig, epochs: int) -> Callable[[Float[Array, ""]], Float[Array, ""]] | None:
    """What learning rates are multiplied by after so many of the run's `epochs`, with a fraction; None for always 1."""
    warmup = config.warmup_epochs
    if not warmup and config.schedule == "constant":
        return None

    def scale(done: Float[Array, ""]) -> Float[Array, ""]:
        factor = jnp.float32(ramp(done, warmup))
        if config.schedule == "cosine":
            after = jnp.clip((done - warmup) / max(epochs - warmup, 1e-6), 0.0, 1.0)
            factor *= 0.5 * (1.0 + jnp.cos(jnp.pi * after))
        return factor

    return scale


def layer_groups(params: Any, config: OptimizerConfig, *, encoder: str, freeze_regressor: bool) -> Any:
    """For every parameter the group that it is updated with: "head", "frozen", "body", or `encoder` for those of the
    encoder, of the fusion of inputs and of a temporal network."""
    frozen = {"all": (), "shared": ("convolution", "norm"), "heads": ("",)}[config.train_layers]

    def group(path: tuple[Any, ...], _: Any) -> str:
        names = tuple(key.key for key in path)
        if names[:2] == CLUSTER_HEAD:
            return "head"
        # The encoder's, or one of those of further inputs.
        if ENCODER in names and names[names.index(ENCODER) + 1].startswith(frozen):
            return "frozen"
        if names[0] == FUSION and config.train_layers == "heads":
            return "frozen"
        if names[0] in (ENCODER, FUSION, TEMPORAL):
            return encoder
        return "frozen" if freeze_regressor and names[0] == REGRESSOR else "body"

    return jax.tree_util.tree_map_with_path(group, params)


def summed(*transformations: optax.GradientTransformation) -> optax.GradientTransformation:
    """A transformation that sums the updates that the given ones make of the same gradient."""

    def init(params: Any) -> Any:
        return tuple(transformation.init(params) for transformation in transformations)

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        results = [t.update(updates, own, params) for t, own in zip(transformations, state, strict=True)]
        found, states = zip(*results, strict=True)
        return jax.tree.map(lambda *parts: sum(parts), *found), states

    return optax.GradientTransformation(init, update)


def stage_one_optimizer(config: OptimizerConfig, cluster_weight: float = 1.0) -> Optimizer:
    """SGD, or AdamW. Stage I leaves the regressor as it is.

    AdamW's updates are as large for any weight of its only loss, so that the weight is one of the encoder's rate.
    """
    if config.algorithm == "published":
        rate = config.sgd_learning_rate
        return _by_layer(config, optax.sgd(rate), {"sgd": rate}, freeze_regressor=True)
    return _by_layer(config, *_adaptive(config), cluster_weight=cluster_weight, freeze_regressor=True)


def stage_two_optimizer(config: OptimizerConfig) -> Optimizer:
    """SGD plus Adam (Kingma & Ba 2015), or AdamW; its state, Adam's moments, is kept across epochs."""
    transformation, rates = _adaptive(config)
    if config.algorithm == "published":
        sgd = config.sgd_learning_rate
        transformation, rates = summed(optax.sgd(sgd), transformation), {"sgd": sgd, **rates}
    return _by_layer(config, transformation, rates, freeze_regressor=config.freeze_regressor)


def _adaptive(config: OptimizerConfig) -> tuple[optax.GradientTransformation, dict[str, float]]:
    rate = config.adam_learning_rate
    if config.algorithm == "published":
        return optax.adam(rate), {"adam": rate}

    def kernels(params: Any) -> Any:
        return jax.tree.map(lambda leaf: leaf.ndim > 1, params)

    return optax.adamw(rate, weight_decay=config.weight_decay, mask=kernels), {"adamw": rate}


def _by_layer(
    config: OptimizerConfig,
    body: optax.GradientTransformation,
    rates: dict[str, float],
    *,
    clusters: bool = True,
    cluster_weight: float = 1.0,
    freeze_regressor: bool = False,
) -> Optimizer:
    """`body` for all layers but those that have another group, if any; networks may have no head for `clusters`."""
    factor, head = config.encoder_rate_factor * cluster_weight, config.cluster_head_learning_rate
    if not clusters and factor == 1 and config.train_layers == "all":
        return Optimizer(body, rates)
    groups: dict[Hashable, optax.GradientTransformation] = {
        "body": body,
        "head": optax.sgd(head),
        "frozen": optax.set_to_zero(),
    }
    shown = {**rates, "cluster_head": head} if clusters else rates
    if factor != 1:
        groups["encoder"] = optax.chain(body, optax.scale(factor))
    if factor != 1 and config.train_layers != "heads":
        shown |= {f"encoder_{name}": factor * rate for name, rate in rates.items()}
    encoder = "body" if factor == 1 else "encoder"
    transformation = optax.partition(
        groups, lambda params: layer_groups(params, config, encoder=encoder, freeze_regressor=freeze_regressor)
    )
    return Optimizer(transformation, shown)
