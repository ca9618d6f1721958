"""The data of a training run: chunks and labels, as arrays."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float32, Int

from emocluster_jax.config import DEFAULT_AUDIO, LABEL, AudioConfig, Features
from emocluster_jax.corpora.inputs import InputSizes
from emocluster_jax.errors import InputError
from emocluster_jax.feed.split import Split


def _positions(split: str, positions: Int[np.ndarray, " n"]) -> list[str]:
    return [f"{split} {position}" for position in positions]


@dataclass(frozen=True)
class TrainingData:
    """The splits, and the statistics that go into the model.

    Attributes:
      train: labelled recordings, or None: then clusters of the unlabelled ones are all that is trained on.
      validation: labelled recordings that select the best epoch, or None.
      unlabeled: recordings for stage I, or None: then training is fully supervised.
      features: how the chunks were made.
      feature_mean: mean of every mel band, or dimension of given features.
      feature_std: their standard deviation.
      audio: how audio files were read.
      inputs: the further inputs that the splits hold, which are those that the network is given.
      recording_ids: (split, positions of recordings in it) -> their ids, for messages.
    """

    train: Split | None
    validation: Split | None
    unlabeled: Split | None
    features: Features
    feature_mean: Float[np.ndarray, " bands"]
    feature_std: Float[np.ndarray, " bands"]
    audio: AudioConfig = DEFAULT_AUDIO
    inputs: InputSizes = ()
    recording_ids: Callable[[str, Int[np.ndarray, " n"]], list[str]] = _positions


def label_statistics(
    values: Float[np.ndarray, "utterances A"], names: tuple[str, ...]
) -> tuple[Float[np.ndarray, " A"], Float[np.ndarray, " A"]]:
    """Mean and population standard deviation of the training labels that exist; 1 instead of a deviation of 0.

    Raises:
      InputError: an attribute has no labels, or one outside `config.LABEL`.
    """
    for name, column in zip(names, values.T, strict=True):
        if (beyond := column[np.abs(column) > LABEL.highest]).size:
            raise InputError(f"the training split has the {name} label {beyond[0]:g}; expected {LABEL}")
        if not np.isfinite(column).any():
            raise InputError(f"the training split has no {name} labels; choose other `attributes` or add labels")
    mean = np.nanmean(values, axis=0, dtype=np.float64)
    std = np.nanstd(values, axis=0, dtype=np.float64)
    return np.asarray(mean, np.float32), np.where(std > 0, std, 1.0).astype(np.float32)


def normalized_labels(
    values: Float[np.ndarray, "utterances A"],
    label_mean: Float[np.ndarray, " A"],
    label_std: Float[np.ndarray, " A"],
) -> tuple[Float32[np.ndarray, "utterances A"], Bool[np.ndarray, "utterances A"]]:
    """z-normalised labels, 0 where missing, and which of them exist."""
    present = np.isfinite(values)
    return np.where(present, (values - label_mean) / label_std, 0.0).astype(np.float32), present
