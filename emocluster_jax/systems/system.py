"""What makes a system: a network, and what the two stages of an epoch minimise."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import flax.linen as nn
import optax
from jaxtyping import Array, Float

from emocluster_jax.config import TrainConfig
from emocluster_jax.training.losses import ccc_loss
from emocluster_jax.training.steps import Batch, Objective, Stage, Terms, training_loss


class Stages(NamedTuple):
    """What an epoch consists of.

    Attributes:
      unlabeled: on the unlabelled pool, where there is one; None for systems that have no use for it.
      labeled: on the labelled recordings.
    """

    unlabeled: Stage | None
    labeled: Stage


@dataclass(frozen=True)
class System:
    """One of the systems that can be trained.

    Attributes:
      network: (config, axis_name) -> a module that takes chunks (n, time, mel) and `train`. Its output has at least
        `attributes` (n, A), in z-normalised label units, and `embeddings` (n, E), which represent the chunks for users
        and are what K-means clusters; E is the (scaled) width of the dense layers.
      stages: (network, config, axis_name) -> the stages. They may train a part of the network only; each has an
        optimiser state of its own.
      clusters: whether each stage begins with K-means and trains on its clusters as pseudo-labels. The network's output
        then has `cluster_logits` (n, K) as well.
    """

    network: Callable[..., nn.Module]
    stages: Callable[[nn.Module, TrainConfig, str | None], Stages]
    clusters: bool = False


def semi_supervised_stages(
    network: nn.Module,
    config: TrainConfig,
    axis_name: str | None,
    objective: Objective,
    terms: tuple[str, ...],
    optimizers: tuple[optax.GradientTransformation, optax.GradientTransformation],
    **arguments: Any,
) -> Stages:
    """The usual pair: an objective that needs no labels, and the same with the CCC loss (`ccc_weight` times) added.

    Args:
      network: what is trained.
      config: of the run.
      axis_name: the mapped axis that shares the batch, or None.
      objective: what the unlabelled stage minimises.
      terms: names of its terms.
      optimizers: of the unlabelled and of the labelled stage.
      arguments: further keyword arguments of the network in training.
    """

    def with_labels(output: Any, batch: Batch) -> tuple[Float[Array, ""], Terms]:
        unsupervised, found = objective(output, batch)
        concordance = ccc_loss(output.attributes, batch.targets, batch.present, axis_name)
        return unsupervised + config.ccc_weight * concordance, {**found, "ccc_loss": concordance}

    return Stages(
        Stage("stage1", terms, training_loss(network, objective, **arguments), optimizers[0]),
        Stage("stage2", (*terms, "ccc_loss"), training_loss(network, with_labels, **arguments), optimizers[1]),
    )
