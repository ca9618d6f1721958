"""DeepEmoCluster (Lin, Sridhar & Busso, ICASSP 2021): cross-entropy on the clusters of K-means, and the CCC loss."""

from __future__ import annotations

import dataclasses
from typing import Any

import flax.linen as nn
from jaxtyping import Array, Float

from emocluster_jax.config import TrainConfig
from emocluster_jax.objectives.information import information_objective
from emocluster_jax.objectives.losses import cross_entropy, ramp
from emocluster_jax.objectives.optimizers import Optimizer, stage_one_optimizer, stage_two_optimizer
from emocluster_jax.objectives.stage import Batch, Objective, Stages, Terms, semi_supervised_stages


def stages(network: nn.Module, config: TrainConfig, axis_name: str | None) -> Stages:
    """Stage I minimises the cross-entropy; stage II also `ccc_weight` times the CCC loss (equation 3), and what
    `information_objective` says.

    With `stages` "unsupervised" the labelled recordings are trained on as in stage I, too.
    """
    first = stage_one_optimizer(config.optimizer, config.cluster_weight)
    return stages_of_objective(network, config, axis_name, cluster_objective(config), first)


def cluster_objective(config: TrainConfig) -> Objective:
    """The cross-entropy on the clusters.

    What the encoder learns of it is weighted by `cluster_weight`, which grows from 0 over the first
    `cluster_warmup_epochs`. The cluster classifier, which nothing else trains and whose last layer may begin anew with
    each clustering, always learns all of it.
    """
    weighted = config.cluster_weight != 1 or config.cluster_warmup_epochs > 0

    def objective(output: Any, batch: Batch) -> tuple[Float[Array, ""], Terms]:
        assert batch.pseudo_labels is not None
        mixed = batch.pseudo_labels, batch.other_labels, batch.shares
        loss = entropy = cross_entropy(output.cluster_logits, *mixed)
        if weighted:
            weight = config.cluster_weight * ramp(batch.epochs, config.cluster_warmup_epochs)
            # Equal numbers, of which the second have no gradient at the encoder.
            loss = weight * entropy + (1 - weight) * cross_entropy(output.extras["detached_logits"], *mixed)
        return loss, {"cross_entropy": entropy}

    return objective


def stages_of_objective(
    network: nn.Module, config: TrainConfig, axis_name: str | None, objective: Objective, first: Optimizer
) -> Stages:
    """Both stages by an objective that needs no labels, stage I by the optimiser `first`; see `stages`."""
    optimizers = first, stage_two_optimizer(config.optimizer)
    information = information_objective(config, axis_name)
    both = semi_supervised_stages(network, config, axis_name, objective, optimizers, information)
    if config.stages == "both":
        return both
    assert both.unlabeled is not None
    return both._replace(labeled=dataclasses.replace(both.unlabeled, name=both.labeled.name))
