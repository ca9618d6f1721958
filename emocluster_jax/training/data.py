"""The data of a training run, and whether its settings fit them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import jax
import numpy as np
from jaxtyping import Float, Float32, Int

from emocluster_jax.config import DEFAULT_AUDIO, LABEL, AudioConfig, AugmentationConfig, Features, TrainConfig
from emocluster_jax.corpora.inputs import FurtherInputs
from emocluster_jax.corpora.labels import check_known
from emocluster_jax.errors import InputError
from emocluster_jax.evaluation.cluster_information import quantile_bins
from emocluster_jax.evaluation.metrics import SELECTIONS
from emocluster_jax.feed.split import Split
from emocluster_jax.models.encoder import DENSE_WIDTH, scaled_width
from emocluster_jax.models.registry import NETWORKS, further_inputs
from emocluster_jax.runtime import platforms


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
      speakers: reads the speakers of the labelled recordings, "" where unknown.
      recording_ids: (split, positions of recordings in it) -> their ids, for messages.
    """

    train: Split | None
    validation: Split | None
    unlabeled: Split | None
    features: Features
    feature_mean: Float[np.ndarray, " bands"]
    feature_std: Float[np.ndarray, " bands"]
    audio: AudioConfig = DEFAULT_AUDIO
    inputs: FurtherInputs = ()
    speakers: Callable[[], list[str]] = list
    recording_ids: Callable[[str, Int[np.ndarray, " n"]], list[str]] = lambda split, rows: [
        f"{split} {i}" for i in rows
    ]


def label_statistics(
    values: Float[np.ndarray, "utterances A"], names: tuple[str, ...]
) -> tuple[Float32[np.ndarray, " A"], Float32[np.ndarray, " A"]]:
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


def label_classes(config: TrainConfig, data: TrainingData) -> Int[np.ndarray, "utterances columns"] | None:
    """For each labelled recording the bin of each attribute's label, and last its speaker's number; -1 where unknown.

    None if no information with them is wanted. Raises InputError if that with speakers is, and there are not two.
    """
    if data.train is None or not (config.information_weight or config.speaker_information_weight):
        return None
    speakers = np.full(data.train.utterances, -1)
    if config.speaker_information_weight:
        names = np.array(data.speakers())
        known = names != ""
        speakers[known] = np.unique(names[known], return_inverse=True)[1]
        if speakers.max() < 1:
            raise InputError(
                "`speaker_information_weight` needs two known speakers or more to train on; leave it out, or prepare "
                "recordings with their speakers"
            )
    bins = (
        quantile_bins(values, config.information_bins) for values in data.train.labels.of(config.model.attributes).T
    )
    return np.column_stack([*bins, speakers])


def selecting_attributes(config: TrainConfig, data: TrainingData) -> tuple[str, ...]:
    """The attributes by which the best epoch is chosen: those with different validation labels, given a regressor."""
    if data.validation is None or config.stages == "unsupervised":
        return ()
    return _varying(data.validation, config)


def data_warnings(config: TrainConfig, data: TrainingData, selecting: tuple[str, ...]) -> list[str]:
    """Warnings about labels, and about batches of all recordings; `selecting` is `selecting_attributes`."""
    names = config.model.attributes
    varying = names if config.stages == "unsupervised" or data.train is None else _varying(data.train, config)
    warnings = [
        f"all {name} labels of the training split are the same: there is nothing to learn from them"
        for name in names
        if name not in varying
    ]
    if data.validation is not None and selecting != names:
        rest = " and ".join(name for name in names if name not in selecting)
        by = f"the best epoch is chosen by {' and '.join(selecting)} alone"
        warnings.append(
            f"the validation split has no {rest} labels that differ, hence no CCC of {rest}: "
            f"{by if selecting else 'the last epoch is kept'}"
        )
    if data.train is not None and config.batch_size > data.train.utterances:
        warnings.append(
            f"a batch of {config.batch_size} recordings is larger than the training split, which has "
            f"{data.train.utterances}: an epoch is one step; a smaller `batch_size` learns faster"
        )
    return warnings


def check_recordings(config: TrainConfig, labels: Sequence[str], *, labeled: bool, unlabeled: bool) -> None:
    """Raises InputError unless there are recordings to train on, and the labels to predict are among the data's."""
    if not labeled and config.stages != "unsupervised":
        raise InputError(
            "there are no labelled recordings to train on; prepare some, or train on the unlabelled ones alone by "
            "`stages=unsupervised`"
        )
    if not labeled and not unlabeled:
        raise InputError("there are no recordings to train on; prepare some, or leave `unlabeled_size` out")
    if config.stages != "unsupervised":
        check_known(config.model.attributes, labels)


def check_settings(config: TrainConfig, data: TrainingData, selecting: tuple[str, ...]) -> None:
    """Raises InputError if the settings do not fit data or devices; `selecting` is `selecting_attributes`."""
    labels = () if data.train is None else data.train.labels.names
    check_recordings(config, labels, labeled=data.train is not None, unlabeled=data.unlabeled is not None)
    if config.patience is not None and not selecting:
        title = SELECTIONS[config.select_by].title
        raise InputError(
            f"`patience` waits for a better validation {title}, but there is no validation split with labels that "
            "differ; leave `patience` out, or prepare validation recordings"
        )
    further_inputs(config.model, data.inputs, "the data")
    network, each, devices = NETWORKS[config.model.system], data.features.chunks_per_utterance, jax.device_count()
    if each < network.least_chunks:
        raise InputError(
            f"`system={config.model.system}` needs recordings of {network.least_chunks} chunks or more, and these have "
            f"{each}; prepare them with more `chunks_per_utterance`"
        )
    batch = config.batch_size * each
    if (config.batch_size if network.whole_recordings else batch) % devices:
        raise InputError(
            f"a batch of {config.batch_size} recordings is {batch} chunks, which {devices} devices cannot share "
            f"equally; choose a `batch_size` that is a multiple of {devices}"
        )
    if config.model.convolutions == "fused" and not platforms.compiles_for_triton():
        kinds = ", ".join(sorted({device.device_kind for device in jax.local_devices()}))
        raise InputError(
            f"`convolutions=fused` is for NVIDIA's A100, H100, H200, B200 and B300, and JAX computes on: {kinds}; "
            "leave `convolutions` out"
        )
    _check_augmentation(config.augmentation, data)
    if not network.clusters:
        return
    components, width = config.clustering.pca_components, scaled_width(DENSE_WIDTH, config.model)
    if components is not None and components > width:
        raise InputError(f"`pca_components` is {components}; expected 1 to {width}, the numbers of an embedding")
    for name, split in (("train", data.train), ("unlabeled", data.unlabeled)):
        if split is not None and config.model.clusters > split.chunk_count:
            raise InputError(
                f"`clusters={config.model.clusters}` is more than the {split.chunk_count} chunks of the {name} split; "
                "choose fewer clusters"
            )


def _check_augmentation(augmentation: AugmentationConfig, data: TrainingData) -> None:
    """Raises InputError if chunks cannot be moved, or masks may be larger than a chunk."""
    features = data.features
    for masks, name, most, size, unit in (
        (augmentation.time_masks, "time_mask_frames", augmentation.time_mask_frames, features.chunk_frames, "frames"),
        (
            augmentation.frequency_masks,
            "frequency_mask_bands",
            augmentation.frequency_mask_bands,
            features.dimensions,
            "bands",
        ),
    ):
        if masks and most > size:
            raise InputError(f"`{name}` is {most}; expected 1 to {size}, the {unit} of a chunk")
    if augmentation.chunk_offset > 0:
        if features.chunks_per_utterance == 1:
            raise InputError(
                "`chunk_offset` moves chunks towards the ones beside them, but these recordings have one chunk each; "
                "leave it out"
            )
        if any(split is not None and split.chunk_steps is None for split in (data.train, data.unlabeled)):
            raise InputError("`chunk_offset` needs `chunk_steps`, which these splits do not have; leave it out")


def _varying(split: Split, config: TrainConfig) -> tuple[str, ...]:
    """The attributes with different labels: others have a CCC of 0 or none, whatever is predicted."""
    names = config.model.attributes
    columns = zip(names, split.labels.of(names).T, strict=True)
    return tuple(name for name, column in columns if len(np.unique(column[np.isfinite(column)])) > 1)
