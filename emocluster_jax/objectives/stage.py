"""A stage of an epoch: what its steps minimise, and by which optimiser."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import optax
from jaxtyping import Array, Bool, Float, Int

from emocluster_jax.config import TrainConfig
from emocluster_jax.feed.split import Inputs
from emocluster_jax.models.network import chunks_of
from emocluster_jax.objectives.losses import ccc_loss
from emocluster_jax.objectives.optimizers import Optimizer


class Batch(NamedTuple):
    """One device's share of a batch of b chunks.

    Attributes:
      inputs: by name, as the network takes them (`models.network.Network`).
      pseudo_labels: the cluster of every chunk; None for systems without clusters.
      targets: z-normalised labels of the chunks' recordings.
      present: which targets exist.
      epochs: how far training has come before this step, in epochs and fractions of one.
    """

    inputs: Inputs
    pseudo_labels: Int[Array, " b"] | None
    targets: Float[Array, "b A"]
    present: Bool[Array, "b A"]
    epochs: Float[Array, ""]

    @property
    def chunks(self) -> Float[Array, "b time mel"]:
        """The batch's chunks of normalised mel spectrograms."""
        return chunks_of(self.inputs)


Terms = dict[str, Float[Array, ""]]
"""The named parts of a loss, for the log."""

Objective = Callable[[Any, Batch], tuple[Float[Array, ""], Terms]]
"""(the network's output, batch) -> what is minimised, and its terms."""

Loss = Callable[[Any, Any, Batch, Array], tuple[Float[Array, ""], tuple[Terms, Any]]]
"""(params, batch_stats, batch, key of dropout and noise) -> loss, (terms, new batch_stats)."""


@dataclass(frozen=True)
class Stage:
    """One of the stages that an epoch consists of.

    Attributes:
      name: under which its optimiser's state is kept and its loss terms are logged.
      loss: what its steps minimise.
      optimizer: how its gradient becomes an update.
      learning_rates: of the optimiser, by group of parameters, for the log.
    """

    name: str
    loss: Loss
    optimizer: optax.GradientTransformation
    learning_rates: Mapping[str, float] = field(default_factory=dict)


def training_loss(network: nn.Module, objective: Objective, **arguments: Any) -> Loss:
    """The loss that an objective makes of the network's output in training mode.

    Args:
      network: what is trained.
      objective: what is made of its output.
      arguments: further keyword arguments of the network.
    """

    def loss(params: Any, batch_stats: Any, batch: Batch, key: Array) -> tuple[Float[Array, ""], tuple[Terms, Any]]:
        output, updated = network.apply(
            {"params": params, "batch_stats": batch_stats},
            batch.inputs,
            train=True,
            rngs={"dropout": key, "noise": jax.random.fold_in(key, 1)},
            mutable=["batch_stats"],
            **arguments,
        )
        total, terms = objective(output, batch)
        return total, (terms, updated["batch_stats"])

    return loss


class Stages(NamedTuple):
    """What an epoch consists of.

    Attributes:
      unlabeled: on the unlabelled pool, where there is one; None for systems that have no use for it.
      labeled: on the labelled recordings.
    """

    unlabeled: Stage | None
    labeled: Stage


def semi_supervised_stages(
    network: nn.Module,
    config: TrainConfig,
    axis_name: str | None,
    objective: Objective,
    optimizers: tuple[Optimizer, Optimizer],
    **arguments: Any,
) -> Stages:
    """The usual pair: an objective that needs no labels, and the same with the CCC loss (`ccc_weight` times) added.

    Args:
      network: what is trained.
      config: of the run.
      axis_name: the mapped axis that shares the batch, or None.
      objective: what the unlabelled stage minimises.
      optimizers: of the unlabelled and of the labelled stage.
      arguments: further keyword arguments of the network in training.
    """

    def with_labels(output: Any, batch: Batch) -> tuple[Float[Array, ""], Terms]:
        unsupervised, found = objective(output, batch)
        concordance = ccc_loss(output.attributes, batch.targets, batch.present, axis_name)
        return unsupervised + config.ccc_weight * concordance, {**found, "ccc_loss": concordance}

    return Stages(
        Stage("stage1", training_loss(network, objective, **arguments), *optimizers[0]),
        Stage("stage2", training_loss(network, with_labels, **arguments), *optimizers[1]),
    )
