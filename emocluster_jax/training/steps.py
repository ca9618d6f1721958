"""One training step of each stage, as pure functions (paper, section 2.2)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import optax
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from emocluster_jax.config import OptimizerConfig
from emocluster_jax.training.losses import ccc_loss, cross_entropy
from emocluster_jax.training.optimizers import stage_one_optimizer, stage_two_optimizer
from emocluster_jax.training.state import TrainState


class Batch(NamedTuple):
    """One device's share of a batch of b chunks.

    Attributes:
      chunks: normalised mel spectrograms.
      pseudo_labels: the cluster of every chunk.
      targets: z-normalised labels of the chunks' recordings.
      present: which targets exist.
    """

    chunks: Float[Array, "b time mel"]
    pseudo_labels: Int[Array, " b"]
    targets: Float[Array, "b A"]
    present: Bool[Array, "b A"]


Terms = dict[str, Float[Array, ""]]
"""The named parts of a loss, for the log."""

Loss = Callable[[Any, Any, Batch, Array], tuple[Float[Array, ""], tuple[Terms, Any]]]
"""(params, batch_stats, batch, dropout key) -> loss, (terms, new batch_stats)."""


@dataclass(frozen=True)
class Stage:
    """One of the stages that an epoch consists of.

    Attributes:
      name: under which its optimiser's state is kept and its loss terms are logged.
      terms: names of its loss's parts.
      loss: what its steps minimise.
      optimizer: how its gradient becomes an update.
    """

    name: str
    terms: tuple[str, ...]
    loss: Loss
    optimizer: optax.GradientTransformation


def unsupervised_stage(model: nn.Module, config: OptimizerConfig) -> Stage:
    """Stage I: cross-entropy on the pseudo-labels of unlabelled chunks."""

    def loss(params: Any, batch_stats: Any, batch: Batch, key: Array) -> tuple[Float[Array, ""], tuple[Terms, Any]]:
        output, updated = _forward(model, params, batch_stats, batch.chunks, key)
        entropy = cross_entropy(output.cluster_logits, batch.pseudo_labels)
        return entropy, ({"cross_entropy": entropy}, updated)

    return Stage("stage1", ("cross_entropy",), loss, stage_one_optimizer(config))


def joint_stage(model: nn.Module, config: OptimizerConfig, ccc_weight: float, axis_name: str | None) -> Stage:
    """Stage II: cross-entropy plus `ccc_weight` times the CCC loss, on labelled chunks (paper, equation 3)."""

    def loss(params: Any, batch_stats: Any, batch: Batch, key: Array) -> tuple[Float[Array, ""], tuple[Terms, Any]]:
        output, updated = _forward(model, params, batch_stats, batch.chunks, key)
        entropy = cross_entropy(output.cluster_logits, batch.pseudo_labels)
        concordance = ccc_loss(output.attributes, batch.targets, batch.present, axis_name)
        return entropy + ccc_weight * concordance, ({"cross_entropy": entropy, "ccc_loss": concordance}, updated)

    return Stage("stage2", ("cross_entropy", "ccc_loss"), loss, stage_two_optimizer(config))


def train_step(
    stage: Stage, state: TrainState, batch: Batch, key: Array, axis_name: str | None = None
) -> tuple[TrainState, Terms]:
    """One update of the network by `stage`.

    Args:
      stage: what is minimised, and how.
      state: the network before the step.
      batch: this device's share of the batch.
      key: for dropout; folded with the device's number, so that devices drop differently.
      axis_name: the mapped axis that shares the batch, or None.

    Returns:
      The network after the step, and the loss terms over the global batch before it.
    """
    if axis_name is not None:
        key = jax.random.fold_in(key, lax.axis_index(axis_name))
    gradient = jax.value_and_grad(stage.loss, has_aux=True)
    (_, (terms, batch_stats)), gradients = gradient(state.params, state.batch_stats, batch, key)
    if axis_name is not None:
        gradients, terms = lax.pmean((gradients, terms), axis_name)
    updates, optimizer_state = stage.optimizer.update(gradients, state.optimizer_states[stage.name], state.params)
    return (
        TrainState(
            params=optax.apply_updates(state.params, updates),
            batch_stats=batch_stats,
            optimizer_states={**state.optimizer_states, stage.name: optimizer_state},
        ),
        terms,
    )


def _forward(model: nn.Module, params: Any, batch_stats: Any, chunks: Array, key: Array) -> tuple[Any, Any]:
    output, updated = model.apply(
        {"params": params, "batch_stats": batch_stats},
        chunks,
        train=True,
        rngs={"dropout": key},
        mutable=["batch_stats"],
    )
    return output, updated["batch_stats"]
