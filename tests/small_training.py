"""Training data and settings so small that a run takes seconds."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from emocluster_jax.config import AugmentationConfig, FeatureConfig, ModelConfig, OptimizerConfig, TrainConfig
from emocluster_jax.corpora.inputs import FurtherInput
from emocluster_jax.corpora.labels import VAD, LabelColumns
from emocluster_jax.feed.split import AUDIO, ResidentSplit, masked, place
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


FURTHER = {"face": FurtherInput("face", 3, 25.0), "text": FurtherInput("text", 6)}
"""Inputs beside the audio that recordings may have: frames and vectors."""


def regressor_of(inputs: tuple[str, ...], epochs: int) -> TrainConfig:
    """A narrow CNN-regressor of arousal that learns from further inputs within a few epochs."""
    return TrainConfig(
        model=ModelConfig(
            system="cnn_regressor", attributes=("arousal",), inputs=inputs, width_multiplier=1 / 8, dropout_rate=0.0
        ),
        epochs=epochs,
        batch_size=4,
        optimizer=OptimizerConfig(adam_learning_rate=0.005),
    )


def draw_recordings(utterances: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Chunks that tell of their labels, and the labels; a third of those of valence is missing."""
    rng = np.random.default_rng(seed)
    labels = rng.normal(4, 1, (utterances, 3)).astype(np.float32)
    labels[::3, 2] = np.nan
    shape = (utterances, FEATURES.chunks_per_utterance, FEATURES.chunk_frames, FEATURES.mel_bands)
    return rng.normal(labels[:, :1, None, None] - 4, 1, shape).clip(-3, 3).astype(np.float16), labels


def draw_vectors(labels: np.ndarray, seed: int) -> np.ndarray:
    """Vectors of six numbers, far from 0, the first of which tell of arousal; NaN for every other recording."""
    vectors = np.random.default_rng((seed, 1)).normal(100, 5, (len(labels), 6))
    vectors[:, :2] += 20 * (labels[:, :1] - 4)
    vectors[1::2] = np.nan
    return vectors.astype(np.float32)


def draw_frames(labels: np.ndarray, seed: int) -> np.ndarray:
    """Chunks of frames of three numbers, the first of which tells of arousal; NaN for every third recording."""
    shape = len(labels), *FURTHER["face"].shape(FEATURES)
    frames = np.random.default_rng((seed, 2)).normal(50, 2, shape)
    frames[..., 0] += 10 * (labels[:, :1, None] - 4)
    frames[2::3] = np.nan
    return frames.astype(np.float32)


def make_split(utterances: int, seed: int, further: Sequence[str] = ()) -> ResidentSplit:
    """Such recordings on the devices, with these of the inputs `FURTHER`."""
    chunks, labels = draw_recordings(utterances, seed)
    drawn = {"text": draw_vectors(labels, seed), "face": draw_frames(labels, seed)}
    inputs = {AUDIO: chunks} | masked({name: drawn[name] for name in further})
    rows = parallel.local_rows(utterances)
    own = {name: values[rows.start : rows.stop] for name, values in inputs.items()}
    return place(own, LabelColumns(VAD, labels[rows.start : rows.stop]), utterances)


def make_data(unlabeled: bool = True, validation: bool = True, further: Sequence[str] = ()) -> TrainingData:
    """25 labelled recordings, with 9 for validation and 13 without labels if wanted."""
    return TrainingData(
        train=make_split(25, seed=6, further=further),
        validation=make_split(9, seed=7, further=further) if validation else None,
        unlabeled=make_split(13, seed=8, further=further) if unlabeled else None,
        inputs=tuple(FURTHER[name] for name in further),
        features=FEATURES,
        feature_mean=np.zeros(FEATURES.mel_bands, np.float32),
        feature_std=np.ones(FEATURES.mel_bands, np.float32),
    )
