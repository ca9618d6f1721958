"""How much soft clusters and a label know of each other: mutual information over the global batch, as a loss.

The authors of the method name clusters that are tied to emotion by a measure of information theory as future work.

A chunk belongs to each cluster as much as the classifier says, so that the information has a gradient. It is no mean
over examples: like the CCC's moments, the joint distribution is averaged over devices inside the loss.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

from emocluster_jax.config import TrainConfig
from emocluster_jax.objectives.stage import Batch, Objective, Terms


def information_objective(config: TrainConfig, axis_name: str | None) -> Objective | None:
    """`speaker_information_weight` times the speakers' normalised information, less `information_weight` times the mean
    of that of the labels; None if both weights are 0."""
    of_labels, of_speakers = config.information_weight, config.speaker_information_weight
    if not (of_labels or of_speakers):
        return None

    def objective(output: Any, batch: Batch) -> tuple[Float[Array, ""], Terms]:
        own, others = batch.classes, batch.other_classes
        assert own is not None
        clusters = jax.nn.softmax(output.cluster_logits)
        chunks = len(own) * (1 if axis_name is None else lax.axis_size(axis_name))

        def information(column: int, count: int) -> Float[Array, ""]:
            other = None if others is None else others[:, column]
            classes = memberships(own[:, column], count, other, batch.shares)
            return normalized_information(clusters, classes, axis_name)

        loss, terms = jnp.zeros(()), {}
        if of_labels:
            attributes = range(own.shape[1] - 1)
            shared = jnp.stack([information(column, config.information_bins) for column in attributes]).mean()
            loss, terms = loss - of_labels * shared, {"label_information": shared}
        if of_speakers:
            shared = information(-1, chunks)
            loss, terms = loss + of_speakers * shared, {**terms, "speaker_information": shared}
        return loss, terms

    return objective


def memberships(
    classes: Int[Array, " n"],
    count: int,
    others: Int[Array, " n"] | None = None,
    shares: Float[Array, " n"] | None = None,
) -> Float[Array, "n count"]:
    """How much each example is of each class, numbered from 0: 1 of its own and 0 of others; all 0 for -1, unknown.

    A mixed example is of its own class by its share, and of the other one's by the rest; unknown if either is.
    """
    own = jax.nn.one_hot(classes, count)
    if others is None or shares is None:
        return own
    known = ((classes >= 0) & (others >= 0)).astype(jnp.float32)
    return known[:, None] * (shares[:, None] * own + (1 - shares[:, None]) * jax.nn.one_hot(others, count))


def shared_information(
    clusters: Float[Array, "n K"], classes: Float[Array, "n V"], axis_name: str | None = None
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """The mutual information of clusters and classes, and the entropy of the classes, in nats.

    Both arguments say how much an example belongs to each; rows of `clusters` add up to 1, rows of `classes` to 1 or,
    where the class is unknown, to 0: then the example takes no part. Without any example both are 0. Devices share the
    examples over the mapped axis `axis_name`; as for `ccc_loss`, `lax.pmean` of the gradients gives that over all.

    Source: Cover & Thomas, "Elements of Information Theory", equations 2.1 and 2.28.
    """
    # In full float32 on every device, as it is a small difference of large numbers.
    joint = jnp.einsum("nk,nv->kv", clusters, classes, precision=lax.Precision.HIGHEST)
    if axis_name is not None:
        joint = lax.pmean(joint, axis_name)
    joint = joint / jnp.maximum(joint.sum(), 1e-6)
    entropy = _entropy(joint.sum(axis=0))
    return entropy + _entropy(joint.sum(axis=1)) - _entropy(joint), entropy


def _entropy(distribution: Float[Array, ...]) -> Float[Array, ""]:
    positive = distribution > 0
    return -jnp.sum(jnp.where(positive, distribution, 0) * jnp.log(jnp.where(positive, distribution, 1)))


def normalized_information(
    clusters: Float[Array, "n K"], classes: Float[Array, "n V"], axis_name: str | None = None
) -> Float[Array, ""]:
    """Mutual information as a share of the classes' entropy, 0 to 1; 0 where there are fewer than two classes."""
    information, entropy = shared_information(clusters, classes, axis_name)
    several = entropy > 1e-6
    return jnp.where(several, information / jnp.where(several, entropy, 1), 0)
