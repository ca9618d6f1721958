"""Simulated annotators of the demo corpus: people who hear the emotion, each a little differently."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from emocluster_jax.corpora.labels import VAD

LOWEST, HIGHEST, STEP = 1.0, 7.0, 0.5
"""The rating scale, as in MSP-Podcast."""
_NOISE = np.array([1.1, 1.2, 1.2])  # arousal, dominance, valence, in scale units
_BIAS = 0.4
_SPREAD = 0.12


def draw_annotators(count: int, rng: np.random.Generator) -> Float[np.ndarray, "annotators 2 attributes"]:
    """Each annotator's bias (scale units) and use of the scale (factor), per attribute."""
    return np.stack([rng.normal(0, _BIAS, (count, len(VAD))), rng.normal(1, _SPREAD, (count, len(VAD)))], axis=1)


def rate(
    hidden: Float[np.ndarray, " attributes"],
    annotators: Float[np.ndarray, "annotators 2 attributes"],
    rng: np.random.Generator,
) -> Float[np.ndarray, "annotators attributes"]:
    """Ratings of one recording.

    Args:
      hidden: what the speaker expressed, from -1 to 1, in the order of `VAD`.
      annotators: who rates it, from `draw_annotators`.
      rng: for the annotators' noise.

    Returns:
      Ratings from `LOWEST` to `HIGHEST` in steps of `STEP`.
    """
    bias, spread = annotators[:, 0], annotators[:, 1]
    heard = on_scale(hidden * spread) + bias + rng.normal(0, 1, bias.shape) * _NOISE
    return np.clip(np.round(heard / STEP) * STEP, LOWEST, HIGHEST)


def on_scale(hidden: Float[np.ndarray, "*any"]) -> Float[np.ndarray, "*any"]:
    """Values from -1 to 1 on the rating scale, without any annotator's error."""
    return (LOWEST + HIGHEST) / 2 + hidden * (HIGHEST - LOWEST) / 2
