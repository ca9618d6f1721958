"""One training step of a stage, as a pure function (paper, section 2.2)."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from jaxtyping import Array, Bool, Float

from emocluster_jax.config import Features, ModelConfig, TrainConfig
from emocluster_jax.corpora.inputs import InputSizes
from emocluster_jax.models.network import example_inputs
from emocluster_jax.models.registry import variables_of
from emocluster_jax.objectives.stage import Batch, Stage, Terms, stages_of
from emocluster_jax.training.state import TrainState

LOST_UPDATE = -float("inf")
"""Replaces the terms of a finite loss if its update or the optimiser's new state is not finite. No loss is negative."""


class StepLog(NamedTuple):
    """The numbers that are logged for one or several steps, by name.

    Attributes:
      terms: of the loss. If one is not finite, the step changed nothing.
      metrics: from `step_metrics`.
    """

    terms: Terms
    metrics: dict[str, Float[Array, "*steps"]]

    @property
    def left_out(self) -> Bool[np.ndarray, "*steps"]:
        """Which steps changed nothing, because their loss or update was not finite."""
        return np.asarray(~np.isfinite(np.stack([np.asarray(values) for values in self.terms.values()])).all(axis=0))


def step_metrics(stage: Stage, params: Any, gradients: Any) -> dict[str, Float[Array, ""]]:
    """What is logged for a step beside its loss.

    Args:
      stage: what is minimised, and how.
      params: the parameters before the step.
      gradients: of the loss over the global batch.
    """
    rates = {f"learning_rate_{group}": jnp.float32(rate) for group, rate in stage.learning_rates.items()}
    return {"gradient_norm": optax.tree.norm(gradients), **rates}


def train_step(
    stage: Stage, state: TrainState, batch: Batch, key: Array, axis_name: str | None = None
) -> tuple[TrainState, StepLog]:
    """One update of the network by `stage`, unless its loss or what comes of it is not finite.

    Args:
      stage: what is minimised, and how.
      state: the network before the step.
      batch: this device's share of the batch.
      key: for dropout and noise; folded with the device's number, so that devices draw differently.
      axis_name: the mapped axis that shares the batch, or None.

    Returns:
      The network after the step, and the step's log over the global batch. If a loss term, a parameter, a batch
      statistic or the optimiser's state would become infinite or NaN, the network stays as it was, on all devices, and
      at least one term is not finite: all are `LOST_UPDATE` if the loss is finite. Metrics have no such effect.
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
    # The decision is the same on every device, as parameters, statistics and moments are.
    finite_loss = _all_finite(terms)
    sound = finite_loss & _all_finite((after.variables, optimizer_state))
    after = jax.tree.map(lambda new, old: jnp.where(sound, new, old), after, state)
    terms = {name: jnp.where(sound | ~finite_loss, value, LOST_UPDATE) for name, value in terms.items()}
    return after, StepLog(terms, step_metrics(stage, state.params, gradients))


def step_log(config: TrainConfig, features: Features, stage_name: str, further: InputSizes = ()) -> StepLog:
    """The log of a step of the stage with this name, as `jax.ShapeDtypeStruct`s, traced from loss and metrics."""
    (stage,) = (stage for stage in stages_of(config) if stage is not None and stage.name == stage_name)
    return _step_log(stage, config.model, features, further)


@lru_cache(maxsize=64)  # tracing a network takes a good part of a second
def _step_log(stage: Stage, model: ModelConfig, features: Features, further: InputSizes) -> StepLog:
    inputs = example_inputs(features, further)
    rows, attributes = features.chunks_per_utterance, len(model.attributes)
    batch = Batch(
        inputs=jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), inputs),
        pseudo_labels=jnp.zeros(rows, jnp.int32),
        targets=jnp.zeros((rows, attributes)),
        present=jnp.ones((rows, attributes), bool),
        epochs=jnp.zeros(()),
    )

    def log(variables: Any, key: Array) -> StepLog:
        _, (terms, _) = stage.loss(variables["params"], variables["batch_stats"], batch, key)
        return StepLog(terms, step_metrics(stage, variables["params"], variables["params"]))

    return jax.eval_shape(log, variables_of(model, features, further), jax.random.key(0, impl="rbg"))


def empty_log(log: StepLog, steps: int) -> StepLog:
    """A log of zeros, for steps that are still to come."""
    return jax.tree.map(lambda leaf: np.zeros((steps, *leaf.shape), leaf.dtype), log)


def _all_finite(tree: Any) -> Bool[Array, ""]:
    return jnp.stack([jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(tree)]).all()
