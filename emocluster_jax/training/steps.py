"""One training step of a stage, as pure functions (paper, section 2.2)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from emocluster_jax.training.state import TrainState


class Batch(NamedTuple):
    """One device's share of a batch of b chunks.

    Attributes:
      chunks: normalised mel spectrograms.
      pseudo_labels: the cluster of every chunk; None for systems without clusters.
      targets: z-normalised labels of the chunks' recordings.
      present: which targets exist.
      epochs: how far training has come before this step, in epochs and fractions of one.
    """

    chunks: Float[Array, "b time mel"]
    pseudo_labels: Int[Array, " b"] | None
    targets: Float[Array, "b A"]
    present: Bool[Array, "b A"]
    epochs: Float[Array, ""]


Terms = dict[str, Float[Array, ""]]
"""The named parts of a loss, for the log."""

LOST_UPDATE = -float("inf")
"""In place of the terms of a finite loss whose update, or what the optimiser keeps of it, is not finite. No loss here
is negative."""

Objective = Callable[[Any, Batch], tuple[Float[Array, ""], Terms]]
"""(the network's output, batch) -> what is minimised, and its terms."""

Loss = Callable[[Any, Any, Batch, Array], tuple[Float[Array, ""], tuple[Terms, Any]]]
"""(params, batch_stats, batch, key of dropout and noise) -> loss, (terms, new batch_stats)."""


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


def training_loss(network: nn.Module, objective: Objective, **arguments: Any) -> Loss:
    """The loss that an objective makes of the network's output in training mode.

    Args:
      network: takes chunks, "dropout" and "noise" keys, and updates "batch_stats".
      objective: what is made of its output.
      arguments: further keyword arguments of the network.
    """

    def loss(params: Any, batch_stats: Any, batch: Batch, key: Array) -> tuple[Float[Array, ""], tuple[Terms, Any]]:
        output, updated = network.apply(
            {"params": params, "batch_stats": batch_stats},
            batch.chunks,
            train=True,
            rngs={"dropout": key, "noise": jax.random.fold_in(key, 1)},
            mutable=["batch_stats"],
            **arguments,
        )
        total, terms = objective(output, batch)
        return total, (terms, updated["batch_stats"])

    return loss


def train_step(
    stage: Stage, state: TrainState, batch: Batch, key: Array, axis_name: str | None = None
) -> tuple[TrainState, Terms]:
    """One update of the network by `stage`, unless a number that comes of it is not finite.

    Args:
      stage: what is minimised, and how.
      state: the network before the step.
      batch: this device's share of the batch.
      key: for dropout and noise; folded with the device's number, so that devices draw differently.
      axis_name: the mapped axis that shares the batch, or None.

    Returns:
      The network after the step, and the loss terms over the global batch before it. Where a term, a parameter, a
      batch statistic or a number of the optimiser's state would become infinite or NaN, the network is the one before
      the step, on all devices, and at least one term is not finite: all are `LOST_UPDATE` where the loss is finite.
    """
    if axis_name is not None:
        key = jax.random.fold_in(key, lax.axis_index(axis_name))
    gradient = jax.value_and_grad(stage.loss, has_aux=True)
    (_, (terms, batch_stats)), gradients = gradient(state.params, state.batch_stats, batch, key)
    if axis_name is not None:
        gradients, terms = lax.pmean((gradients, terms), axis_name)
    updates, optimizer_state = stage.optimizer.update(gradients, state.optimizer_states[stage.name], state.params)
    after = TrainState(
        params=optax.apply_updates(state.params, updates),
        batch_stats=batch_stats,
        optimizer_states={**state.optimizer_states, stage.name: optimizer_state},
    )
    # Parameters, statistics and moments are the same on every device, and so is the decision.
    finite_loss = _all_finite(terms)
    sound = finite_loss & _all_finite((after.variables, optimizer_state))
    after = jax.tree.map(lambda new, old: jnp.where(sound, new, old), after, state)
    return after, {name: jnp.where(sound | ~finite_loss, value, LOST_UPDATE) for name, value in terms.items()}


def _all_finite(tree: Any) -> Bool[Array, ""]:
    return jnp.stack([jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(tree)]).all()
