"""A stage of an epoch: what its steps minimise, and by which optimiser."""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache, partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import optax
from jaxtyping import Array, Float, Int

from emocluster_jax.config import TrainConfig
from emocluster_jax.feed.split import Inputs
from emocluster_jax.models.network import chunks_of
from emocluster_jax.models.registry import network_of
from emocluster_jax.objectives.losses import ccc_loss
from emocluster_jax.objectives.optimizers import Optimizer, adam, rate_scale


class Batch(NamedTuple):
    """One device's share of a batch of b chunks.

    Attributes:
      inputs: by name, as the network takes them.
      pseudo_labels: the cluster of every chunk; None for systems without clusters.
      targets: z-normalised labels of the chunks' recordings, NaN where missing.
      epochs: epochs of training before this step, with a fraction.
      classes: the bin of each attribute's label, and last the speaker, by a number below that of the global batch's
        chunks; -1 where unknown. None where no objective asks for them.
      other_labels: the clusters of the chunks that were mixed into these; None if none were, or for systems without
        clusters. Inputs and targets are mixtures already.
      shares: what these chunks themselves are of the mixtures, 0.5 to 1; None if there are none.
      other_classes: the classes of the chunks that were mixed into these.
      unmasked: the chunks before parts of them were masked; None if none were.
      key: for what an objective draws, the same on all devices; the network draws dropout and noise by others.
    """

    inputs: Inputs
    pseudo_labels: Int[Array, " b"] | None
    targets: Float[Array, "b A"]
    epochs: Float[Array, ""]
    classes: Int[Array, "b columns"] | None = None
    other_labels: Int[Array, " b"] | None = None
    shares: Float[Array, " b"] | None = None
    other_classes: Int[Array, "b columns"] | None = None
    unmasked: Float[Array, "b time mel"] | None = None
    key: Array | None = None

    @property
    def chunks(self) -> Float[Array, "b time mel"]:
        """The batch's normalised mel spectrograms, without the masks that the network's input may have."""
        return chunks_of(self.inputs) if self.unmasked is None else self.unmasked


Terms = dict[str, Float[Array, ""]]
"""The named parts of a loss, for the log."""

Objective = Callable[[Any, Batch], tuple[Float[Array, ""], Terms]]
"""(the network's output, batch) -> what is minimised, and its terms."""

Loss = Callable[[Any, Any, Batch, Array], tuple[Float[Array, ""], tuple[Terms, Any]]]
"""(params, batch_stats, batch, key of dropout and noise) -> loss, (terms, new batch_stats)."""


@dataclass(frozen=True)
class Stage:
    """One of the stages of an epoch; its optimiser's state and its loss terms are known by its name.

    `rate_scale` is what updates are multiplied by after so many epochs, with a fraction; None for 1.
    """

    name: str
    loss: Loss
    optimizer: optax.GradientTransformation
    learning_rates: Mapping[str, float] = field(default_factory=dict, hash=False)
    rate_scale: Callable[[Float[Array, ""]], Float[Array, ""]] | None = None
    average_decay: float = 0.0


def training_loss(network: nn.Module, objective: Objective, **arguments: Any) -> Loss:
    """An objective of the network's output in training mode, as a loss; `arguments` are passed to the network."""

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
    """What an epoch consists of: a stage on the unlabelled pool, for systems that use it, and one on labelled data."""

    unlabeled: Stage | None
    labeled: Stage


def semi_supervised_stages(
    network: nn.Module,
    config: TrainConfig,
    axis_name: str | None,
    objective: Objective,
    optimizers: tuple[Optimizer, Optimizer] | None = None,
    of_labels: Objective | None = None,
    **arguments: Any,
) -> Stages:
    """The usual pair: an objective that needs no labels, and the same plus `ccc_weight` times the CCC loss.

    The second stage also minimises the objective `of_labels`, if there is one. Without `optimizers`, of the unlabelled
    and of the labelled stage, both use Adam. Devices share a batch over the mapped axis `axis_name`; in training the
    network also gets the `arguments`.
    """
    unlabeled, labeled = optimizers or (adam(config.optimizer), adam(config.optimizer))

    def with_labels(output: Any, batch: Batch) -> tuple[Float[Array, ""], Terms]:
        unsupervised, found = objective(output, batch)
        concordance = ccc_loss(output.attributes, batch.targets, axis_name)
        loss, terms = unsupervised + config.ccc_weight * concordance, {**found, "ccc_loss": concordance}
        if of_labels is None:
            return loss, terms
        further, others = of_labels(output, batch)
        return loss + further, {**terms, **others}

    return Stages(
        Stage("stage1", training_loss(network, objective, **arguments), *unlabeled),
        Stage("stage2", training_loss(network, with_labels, **arguments), *labeled),
    )


def stages_of(config: TrainConfig, axis_name: str | None = None) -> Stages:
    """What the system named by `config` minimises: `stages` in the module of that name in this package.

    Runs that differ only in their seed, fold, or when they stop and save get the same stages, so that a process
    compiles these once. Devices share a batch over the mapped axis `axis_name`.
    """
    return _stages(dataclasses.replace(config, **_NOT_MINIMISED), axis_name)


_NOT_MINIMISED: dict[str, Any] = {
    name: getattr(TrainConfig(), name)
    for name in ("augmentation", "seed", "fold", "select_by", "patience", "checkpoint_minutes", "on_nan")
}


@lru_cache(maxsize=32)
def _stages(config: TrainConfig, axis_name: str | None) -> Stages:
    network = network_of(config.model, axis_name, config.optimizer.train_layers)
    objectives = importlib.import_module(f"emocluster_jax.objectives.{network.objective or config.model.system}")
    scale = rate_scale(config.optimizer, config.epochs)
    stages: Stages = objectives.stages(network, config, axis_name)
    common = partial(dataclasses.replace, rate_scale=scale, average_decay=config.average_decay)
    return Stages(stages.unlabeled and common(stages.unlabeled), common(stages.labeled))
