"""Untrained models of a few thousand parameters, which predict in milliseconds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import numpy as np
import soundfile

from emocluster_jax.config import ClusteringConfig, FeatureConfig, ModelConfig, SystemName
from emocluster_jax.inference.model_directory import SavedModel
from emocluster_jax.models.network import example_inputs
from emocluster_jax.models.registry import NETWORKS, network_of


def small_model(
    attributes: tuple[Any, ...] = ("arousal",), seed: int = 0, system: SystemName = "emocluster", **changes: Any
) -> SavedModel:
    """A narrow network with random weights, spread enough for chunks to fall into different clusters."""
    config = ModelConfig(system=system, attributes=attributes, clusters=5, width_multiplier=1 / 8)
    features = changes.get("features", FeatureConfig())
    network = network_of(config)
    shapes = jax.eval_shape(network.init, jax.random.key(0), example_inputs(features))
    random = np.random.default_rng(seed)
    variables = jax.tree_util.tree_map_with_path(lambda path, leaf: _draw(path[-1].key, leaf.shape, random), shapes)
    settings: dict[str, Any] = {
        "config": config,
        "clustering": ClusteringConfig(),
        "features": features,
        "feature_mean": random.uniform(0.1, 1, features.dimensions).astype(np.float32),
        "feature_std": random.uniform(1, 3, features.dimensions).astype(np.float32),
        "label_mean": np.linspace(3, 4, len(attributes)).astype(np.float32),
        "label_std": np.linspace(0.5, 1, len(attributes)).astype(np.float32),
        "variables": variables,
        "transform": None,
        "centroids": random.normal(0, 1, (config.clusters, 32)).astype(np.float32)
        if NETWORKS[system].clusters
        else None,
        "origin": {"seed": seed},
    }
    return SavedModel(**{**settings, **changes})


def noise(seconds: float, rate: int = 16_000, seed: int = 0) -> np.ndarray:
    """Noise whose loudness and colour drift, so that no two parts of it are alike; float32 below 0.5."""
    random = np.random.default_rng(seed)
    time = np.arange(round(seconds * rate)) / rate
    tone = np.sin(2 * np.pi * (200 + 150 * np.sin(2 * np.pi * 0.3 * time)) * time)
    loudness = 0.1 + 0.1 * np.sin(2 * np.pi * 0.37 * time + seed)
    return (loudness * (tone + 0.3 * random.standard_normal(len(time)))).clip(-0.5, 0.5).astype(np.float32)


def write_recording(path: Path, signal: np.ndarray, rate: int = 16_000) -> Path:
    """Writes (samples,) or (channels, samples) as 32-bit WAV."""
    soundfile.write(path, signal.T, rate, subtype="FLOAT", format="WAV")
    return path


def _draw(name: str, shape: tuple[int, ...], random: np.random.Generator) -> np.ndarray:
    """Weights that keep the scale of what passes through them, so that one chunk's output differs from another's."""
    if name in ("kernel", "a"):
        drawn = random.normal(0, np.sqrt(2 / np.prod(shape[:-1])), shape)
    elif name in ("scale", "var"):
        drawn = random.uniform(0.5, 1.5, shape)
    else:
        drawn = random.normal(0, 0.1, shape)
    return drawn.astype(np.float32)
