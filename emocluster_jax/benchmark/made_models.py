"""Freshly drawn models, which compute as much as trained ones."""

from __future__ import annotations

import jax
import numpy as np

from emocluster_jax.config import ClusteringConfig, FeatureConfig, ModelConfig
from emocluster_jax.corpora.labels import VAD
from emocluster_jax.inference.model_directory import SavedModel
from emocluster_jax.models.registry import network_of
from emocluster_jax.training.steps import create_train_state


def drawn_models(width_multiplier: float = 1.0) -> list[SavedModel]:
    """Three with one attribute each, and the same features, like the published ones."""
    features = FeatureConfig()
    drawn = []
    for seed, attribute in enumerate(VAD):
        config = ModelConfig(attributes=(attribute,), width_multiplier=width_multiplier)
        state = create_train_state(network_of(config), features, {}, jax.random.key(seed, impl="rbg"))
        model = SavedModel(
            config=config,
            clustering=ClusteringConfig(),
            features=features,
            feature_mean=np.ones(features.mel_bands, np.float32),
            feature_std=np.full(features.mel_bands, 3, np.float32),
            label_mean=np.full(1, 4, np.float32),
            label_std=np.ones(1, np.float32),
            variables=jax.tree.map(np.asarray, state.variables),
            transform=None,
            centroids=None,
            origin={},
        )
        drawn.append(model)
    return drawn
