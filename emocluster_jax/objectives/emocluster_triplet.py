"""DeepEmoCluster, and a triplet loss by which chunks of a recording that are close in time are close in the network.

W.-C. Lin and C. Busso, "Deep temporal clustering features for speech emotion recognition", Speech Communication 157,
2024.
"""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from emocluster_jax.config import TrainConfig
from emocluster_jax.feed.split import AUDIO
from emocluster_jax.models.emocluster_triplet import NEAR
from emocluster_jax.objectives.emocluster import cluster_objective, stages_of_objective
from emocluster_jax.objectives.losses import triplet_margin_loss
from emocluster_jax.objectives.optimizers import stage_one_optimizer
from emocluster_jax.objectives.stage import Batch, Stages, Terms

DRAWS = 10
"""Triplets of chunks that each batch is compared by."""


def stages(network: nn.Module, config: TrainConfig, axis_name: str | None) -> Stages:
    """Those of `objectives.emocluster`, and in both `triplet_weight` times the triplet loss on the shared layer's
    outputs: the mean over the recordings of the batch and `DRAWS` triplets of chunks, the same for all of them."""
    clusters = cluster_objective(config)

    def objective(output: Any, batch: Batch) -> tuple[Float[Array, ""], Terms]:
        assert batch.key is not None
        recordings, chunks = batch.inputs[AUDIO].shape[:2]
        shared = output.extras["shared"].reshape(recordings, chunks, -1)
        compared = shared[:, draw_triplets(batch.key, chunks)]  # recordings, draws, 3, E
        triplet = triplet_margin_loss(*(compared[:, :, i].reshape(-1, shared.shape[-1]) for i in range(3)))
        loss, terms = clusters(output, batch)
        return loss + config.triplet_weight * triplet, {**terms, "triplet": triplet}

    # The weight of the clusters is not that of the whole loss, and so not one of the encoder's learning rate.
    return stages_of_objective(network, config, axis_name, objective, stage_one_optimizer(config.optimizer))


def draw_triplets(key: Array, chunks: int) -> Int[Array, "draws 3"]:
    """Numbers of an anchor, of a chunk at most `NEAR` from it, and of one farther away, `DRAWS` times.

    All anchors from which there is a chunk farther away are equally likely, and so are all that may go with one. There
    have to be at least `NEAR` + 2 chunks.
    """
    distances = jnp.abs(jnp.arange(chunks)[:, None] - jnp.arange(chunks))
    near, far = (distances > 0) & (distances <= NEAR), distances > NEAR

    def drawn(key: Array, allowed: Bool[Array, "draws chunks"]) -> Int[Array, " draws"]:
        return jax.random.categorical(key, jnp.where(allowed, 0.0, -jnp.inf))

    anchor_key, near_key, far_key = jax.random.split(key, 3)
    anchors = drawn(anchor_key, jnp.broadcast_to(far.any(axis=1), (DRAWS, chunks)))
    return jnp.stack([anchors, drawn(near_key, near[anchors]), drawn(far_key, far[anchors])], axis=1)
