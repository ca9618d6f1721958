"""The state of training, one step of a stage, and the compiled programs (paper, section 2.2).

A program is one step. The host only queues the next ones while the devices compute, and looks at the log every second
or two. No program's shapes depend on the number of recordings, but K-means': the same arguments give the same program
again, which is traced and compiled once for all runs of a process.
"""

from __future__ import annotations

from functools import cache, lru_cache, partial
from typing import Any, NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from emocluster_jax.clustering.blocks import global_row_indices
from emocluster_jax.clustering.embedding_transform import EmbeddingTransform, fit_transform, transform
from emocluster_jax.clustering.kmeans import KMeansResult, kmeans
from emocluster_jax.config import AugmentationConfig, ClusteringConfig, Features, ModelConfig, TrainConfig
from emocluster_jax.corpora.inputs import FurtherInputs
from emocluster_jax.feed.split import Inputs, as_float32
from emocluster_jax.models.encoder import dense_init
from emocluster_jax.models.network import Network, example_inputs
from emocluster_jax.models.registry import variables_of
from emocluster_jax.objectives.optimizers import CLUSTER_HEAD
from emocluster_jax.objectives.stage import Batch, Stage, Terms, stages_of
from emocluster_jax.runtime import parallel
from emocluster_jax.training.augmentation import Windows, augmented, moved_inputs

NOT_AUGMENTED = AugmentationConfig()
_OF_ALL_DEVICES = np.uint32((1 << 32) - 1)
"""Folded into the key of what all devices draw alike, where each folds its own number into the others."""
LOST_UPDATE = -float("inf")
"""Replaces the terms of a finite loss if its update or the optimiser's new state is not finite. No loss is negative."""


class WeightAverage(NamedTuple):
    """The moving average of a network's variables over its steps."""

    variables: dict[str, Any]
    steps: Int[Array, ""]

    def after(self, variables: dict[str, Any], decay: float) -> WeightAverage:
        """With one more step; in the first ones, the average forgets faster, so that the initial draw does not last."""
        kept = jnp.minimum(decay, (1 + self.steps) / (10 + self.steps))
        mixed = jax.tree.map(lambda old, new: kept * old + (1 - kept) * new, self.variables, variables)
        return WeightAverage(mixed, self.steps + 1)


@flax.struct.dataclass
class TrainState:
    """All that a training step reads and replaces.

    Optimisers' states are by name of their stage; `average` is None where `TrainConfig.average_decay` is 0.
    """

    params: Any
    batch_stats: Any
    optimizer_states: dict[str, optax.OptState]
    average: WeightAverage | None = None

    @property
    def variables(self) -> dict[str, Any]:
        return {"params": self.params, "batch_stats": self.batch_stats}

    @property
    def evaluated(self) -> dict[str, Any]:
        """The variables that are evaluated, cluster chunks and are saved as a model."""
        return self.variables if self.average is None else self.average.variables

    def averaging(self) -> TrainState:
        """The state with an average that begins with its variables."""
        return self.replace(average=WeightAverage(self.variables, np.int32(0)))  # type: ignore[attr-defined]


def create_train_state(
    network: Network,
    features: Features,
    optimizers: dict[str, optax.GradientTransformation],
    key: Array,
    further: FurtherInputs = (),
) -> TrainState:
    """Freshly drawn parameters, and the initial states of the optimisers, which are given by name of their stage."""
    variables = _draw(network, key, example_inputs(features, further))
    states = {name: optimizer.init(variables["params"]) for name, optimizer in optimizers.items()}
    return TrainState(variables["params"], variables["batch_stats"], states)


@partial(jax.jit, static_argnums=0)
def _draw(network: Network, key: Array, inputs: Inputs) -> Any:
    return network.init(key, inputs)


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


def step_metrics(
    stage: Stage, params: Any, gradients: Any, scale: Float[Array, ""] | float = 1.0
) -> dict[str, Float[Array, ""]]:
    """What is logged for a step beside its loss, of the parameters before it and the gradient over the global batch.

    `scale` is what the learning rates are multiplied by.
    """
    rates = {f"learning_rate_{group}": jnp.float32(rate) * scale for group, rate in stage.learning_rates.items()}
    return {"gradient_norm": optax.tree.norm(gradients), **rates}


def train_step(
    stage: Stage, state: TrainState, batch: Batch, key: Array, axis_name: str | None = None
) -> tuple[TrainState, StepLog]:
    """One update of the network by `stage`, unless its loss or what comes of it is not finite.

    Devices share the batch over the mapped axis `axis_name`, and fold their number into the key of dropout and noise.

    Returns:
      The network after the step, and the step's log over the global batch. If a loss term or a number of the new
      network is not finite, it stays as it was, on all devices, and at least one term is not finite: all are
      `LOST_UPDATE` if the loss is finite. Metrics have no such effect.
    """
    if axis_name is not None:
        key = jax.random.fold_in(key, lax.axis_index(axis_name))
    gradient = jax.value_and_grad(stage.loss, has_aux=True)
    (_, (terms, batch_stats)), gradients = gradient(state.params, state.batch_stats, batch, key)
    if axis_name is not None:
        gradients, terms = lax.pmean((gradients, terms), axis_name)
    updates, optimizer_state = stage.optimizer.update(gradients, state.optimizer_states[stage.name], state.params)
    scale = 1.0
    if stage.rate_scale is not None:
        scale = stage.rate_scale(batch.epochs)
        updates = jax.tree.map(lambda update: scale * update, updates)
    after = TrainState(
        params=optax.apply_updates(state.params, updates),
        batch_stats=batch_stats,
        optimizer_states={**state.optimizer_states, stage.name: optimizer_state},
    )
    if state.average is not None:
        after = after.replace(average=state.average.after(after.variables, stage.average_decay))  # type: ignore[attr-defined]
    # The decision is the same on every device, as parameters, statistics and moments are.
    finite_loss = _all_finite(terms)
    sound = finite_loss & _all_finite((after.variables, optimizer_state))
    after = jax.tree.map(lambda new, old: jnp.where(sound, new, old), after, state)
    terms = {name: jnp.where(sound | ~finite_loss, value, LOST_UPDATE) for name, value in terms.items()}
    return after, StepLog(terms, step_metrics(stage, state.params, gradients, scale))


def step_log(config: TrainConfig, features: Features, stage_name: str, further: FurtherInputs = ()) -> StepLog:
    """The log of a step of the stage with this name, as `jax.ShapeDtypeStruct`s, traced from loss and metrics."""
    (stage,) = (stage for stage in stages_of(config) if stage is not None and stage.name == stage_name)
    return _step_log(stage, config.model, features, further)


@lru_cache(maxsize=64)  # tracing a network takes a good part of a second
def _step_log(stage: Stage, model: ModelConfig, features: Features, further: FurtherInputs) -> StepLog:
    rows = features.chunks_per_utterance
    targets = jnp.zeros((rows, len(model.attributes)))
    classes = jnp.zeros((rows, len(model.attributes) + 1), jnp.int32)
    batch = example_inputs(features, further), jnp.zeros(rows, jnp.int32), targets, jnp.zeros(()), classes

    def log(variables: Any, key: Array, *batch: Any) -> StepLog:
        _, (terms, _) = stage.loss(variables["params"], variables["batch_stats"], Batch(*batch, key=key), key)
        return StepLog(terms, step_metrics(stage, variables["params"], variables["params"]))

    return jax.eval_shape(log, variables_of(model, features, further), jax.random.key(0, impl="rbg"), *batch)


def empty_log(log: StepLog, steps: int) -> StepLog:
    """A log of zeros, for steps that are still to come."""
    return jax.tree.map(lambda leaf: np.zeros((steps, *leaf.shape), leaf.dtype), log)


def _all_finite(tree: Any) -> Bool[Array, ""]:
    # The least by sorting: XLA would make a chain of `and`s of a reduction, and repeat it in the update of every array,
    # which doubles the time that it takes to compile a step.
    finite = jnp.stack([jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(tree)])
    return lax.sort(finite.astype(jnp.int8))[0] == 1


@lru_cache(maxsize=32)
def clustering_program(config: ClusteringConfig, clusters: int, chunk_count: int) -> parallel.Program:
    """A program ((), embeddings, key) -> principal components, if wanted, and K-means of the projected embeddings.

    Rows after the `chunk_count` real chunks of all devices are padding.
    """

    def run(_: tuple[()], embeddings: Array, key: Array) -> tuple[EmbeddingTransform | None, KMeansResult]:
        weights = (global_row_indices(len(embeddings), parallel.AXIS) < chunk_count).astype(jnp.float32)
        fitted = None
        if config.pca_components is not None:
            fitted = fit_transform(
                embeddings, weights, components=config.pca_components, whiten=config.whiten, axis_name=parallel.AXIS
            )
        result = kmeans(
            key,
            transform(embeddings, fitted, l2_normalize=config.unit_length),
            weights,
            clusters=clusters,
            iterations=config.iterations,
            initialization=config.initialization,
            spherical=config.cosine,
            axis_name=parallel.AXIS,
        )
        return fitted, result

    return parallel.parallel(run)


@cache
def redraw_head_program() -> parallel.Program:
    """A program (state, (), key) -> the state with a new last layer of the cluster classifier.

    Cluster numbers mean nothing across clusterings.
    """

    def run(state: TrainState, _: tuple[()], key: Array) -> TrainState:
        classifier, output = CLUSTER_HEAD
        old = state.params[classifier][output]
        new = {"kernel": dense_init(key, old["kernel"].shape), "bias": jnp.zeros_like(old["bias"])}

        def redrawn(params: Any) -> Any:
            return {**params, classifier: {**params[classifier], output: new}}

        average = state.average
        if average is not None:
            variables = {**average.variables, "params": redrawn(average.variables["params"])}
            average = average._replace(variables=variables)
        return TrainState(redrawn(state.params), state.batch_stats, state.optimizer_states, average)

    return parallel.parallel(run)


@cache
def predicted_clusters_program() -> parallel.Program:
    """A program ((), (embeddings, variables), ()) -> the cluster that the classifier predicts for each chunk."""

    def run(_: tuple[()], arrays: tuple[Array, dict[str, Any]], __: tuple[()]) -> Array:
        embeddings, variables = arrays
        classifier, output = CLUSTER_HEAD
        last = variables["params"][classifier][output]
        return (jax.nn.relu(embeddings) @ last["kernel"] + last["bias"]).argmax(axis=-1).astype(jnp.int32)

    return parallel.parallel(run)


def numbered_as_predicted(
    assignments: Int[np.ndarray, " chunks"], predicted: Int[np.ndarray, " chunks"], clusters: int
) -> Int[np.ndarray, " K"]:
    """The new number of each cluster with which most chunks' clusters are those predicted (Kuhn 1955)."""
    from scipy.optimize import linear_sum_assignment

    agreeing = np.zeros((clusters, clusters), np.int64)
    np.add.at(agreeing, (assignments, predicted), 1)
    return linear_sum_assignment(agreeing, maximize=True)[1].astype(np.int32)


LOGGED_STEPS = 256
"""Steps after which the devices' log begins anew, so that its size does not depend on the stage's steps."""


class Trained(NamedTuple):
    """What a step changes: the network, and the log of the last `LOGGED_STEPS` steps, at their numbers modulo that."""

    state: TrainState
    log: StepLog


class StepArrays(NamedTuple):
    """What a step reads, of each device's share of the batch.

    Attributes:
      inputs: from `Split.draws`; with `windows`, of batches of chunks, with the chunk after each.
      pseudo_labels: the chunks' clusters, int32; None for systems without clusters.
      targets: z-normalised labels of the chunks' recordings, float32; NaN where missing.
      classes: see `Batch.classes`.
      windows: where the chunks are moved to, `lefts` being numbers of chunks in `inputs`' rows; None if they are not.
    """

    inputs: Inputs
    pseudo_labels: Int[Array, "*devices n"] | None
    targets: Float[Array, "*devices n A"]
    classes: Int[Array, "*devices n columns"] | None = None
    windows: Windows | None = None


class Step(NamedTuple):
    """Which step it is: of the stage, from 0 on, and after so many `epochs`, of which the last may be a part.

    The key is that of all steps of the stage.
    """

    key: Array
    number: Any
    epochs: Any


@lru_cache(maxsize=32)
def training_program(stage: Stage, augmentation: AugmentationConfig = NOT_AUGMENTED) -> parallel.Program:
    """A program (`Trained`, `StepArrays`, `Step`) -> `Trained`, which takes a step of a stage and logs it."""

    def run(trained: Trained, arrays: StepArrays, step: Step) -> Trained:
        inputs = as_float32(arrays.inputs)
        if arrays.windows is not None:
            inputs = moved_inputs(inputs, arrays.windows)
        key = jax.random.fold_in(step.key, step.number)
        of_all = jax.random.fold_in(key, _OF_ALL_DEVICES)
        batch = Batch(inputs, arrays.pseudo_labels, arrays.targets, step.epochs, arrays.classes, key=of_all)
        batch = augmented(batch, augmentation, key, parallel.AXIS)
        state, found = train_step(stage, trained.state, batch, key, parallel.AXIS)
        place = step.number % LOGGED_STEPS
        return Trained(state, jax.tree.map(lambda log, value: log.at[place].set(value), trained.log, found))

    return parallel.parallel(run)
