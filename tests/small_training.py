"""Training data and settings so small that a run takes seconds."""

from __future__ import annotations

import dataclasses

import numpy as np

from emocluster_jax.config import AugmentationConfig, FeatureConfig, ModelConfig, TrainConfig
from emocluster_jax.corpora.labels import VAD, LabelColumns
from emocluster_jax.feed.split import AUDIO, ResidentSplit, place
from emocluster_jax.runtime import parallel
from emocluster_jax.training.data import TrainingData

FEATURES = FeatureConfig(mel_bands=32, chunk_frames=16, chunks_per_utterance=4)
# Every device draws its own dropout mask, so without dropout only do all of them agree.
MODEL = ModelConfig(attributes=("arousal", "valence"), clusters=5, width_multiplier=0.125, dropout_rate=0.0)
# Tests that train with just these settings, `epochs` among them, share the programs: to trace them takes longer than to
# train.
CONFIG = TrainConfig(model=dataclasses.replace(MODEL, dropout_rate=0.5), epochs=3, batch_size=4)
AUGMENTED = AugmentationConfig(
    chunk_offset=0.5,
    mixup_alpha=0.4,
    time_masks=2,
    time_mask_frames=3,
    frequency_masks=1,
    frequency_mask_bands=8,
)
"""All that changes chunks at random."""


def draw_recordings(utterances: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Chunks that tell of their labels, and the labels; a third of those of valence is missing."""
    rng = np.random.default_rng(seed)
    labels = rng.normal(4, 1, (utterances, 3)).astype(np.float32)
    labels[::3, 2] = np.nan
    shape = (utterances, FEATURES.chunks_per_utterance, FEATURES.chunk_frames, FEATURES.mel_bands)
    return rng.normal(labels[:, :1, None, None] - 4, 1, shape).clip(-3, 3).astype(np.float16), labels


def make_split(utterances: int, seed: int) -> ResidentSplit:
    """Such recordings on the devices."""
    chunks, labels = draw_recordings(utterances, seed)
    rows = parallel.local_rows(utterances)
    own = LabelColumns(VAD, labels[rows.start : rows.stop])
    return place({AUDIO: chunks[rows.start : rows.stop]}, own, utterances)


def make_data(unlabeled: bool = True, validation: bool = True) -> TrainingData:
    """25 labelled recordings, with 9 for validation and 13 without labels if wanted."""
    return TrainingData(
        train=make_split(25, seed=6),
        validation=make_split(9, seed=7) if validation else None,
        unlabeled=make_split(13, seed=8) if unlabeled else None,
        features=FEATURES,
        feature_mean=np.zeros(FEATURES.mel_bands, np.float32),
        feature_std=np.ones(FEATURES.mel_bands, np.float32),
    )
