"""One training step of a stage, as a pure function (paper, section 2.2)."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import lax
from jaxtyping import Array, Bool

from emocluster_jax.objectives.stage import Batch, Stage, Terms
from emocluster_jax.training.state import TrainState

LOST_UPDATE = -float("inf")
"""In place of the terms of a finite loss whose update, or what the optimiser keeps of it, is not finite. No loss here
is negative."""


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
