"""Checks of a run's settings against its data, and warnings before it begins."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import numpy as np

from emocluster_jax.config import TrainConfig
from emocluster_jax.corpora.labels import check_known
from emocluster_jax.errors import InputError
from emocluster_jax.evaluation.selection import SELECTIONS
from emocluster_jax.feed.split import Split
from emocluster_jax.models.encoder import DENSE_WIDTH, scaled_width
from emocluster_jax.models.registry import NETWORKS, trains_on_recordings
from emocluster_jax.training.data import TrainingData


def selecting_attributes(config: TrainConfig, data: TrainingData) -> tuple[str, ...]:
    """The attributes by which the best epoch is chosen: those with different validation labels, given a regressor."""
    if data.validation is None or config.stages == "unsupervised":
        return ()
    return _varying(data.validation, config)


def label_warnings(config: TrainConfig, data: TrainingData, selecting: tuple[str, ...]) -> list[str]:
    """Warnings about the labels; `selecting` is `selecting_attributes`."""
    names, unsupervised = config.model.attributes, config.stages == "unsupervised"
    varying = names if unsupervised or data.train is None else _varying(data.train, config)
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
    return warnings


def check_recordings(config: TrainConfig, labels: Sequence[str], *, labeled: bool, unlabeled: bool) -> None:
    """Checks that there are recordings to train on, and labels to predict.

    Args:
      config: the run's settings.
      labels: names of the data's labels.
      labeled: whether the data have labelled recordings.
      unlabeled: whether they have unlabelled ones.

    Raises:
      InputError: recordings or labels that the run needs are missing.
    """
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
    batch = batch_chunks_of(config, data)
    units = config.batch_size if trains_on_recordings(config.model) else batch
    if units % jax.device_count():
        raise InputError(
            f"a batch of {config.batch_size} recordings is {batch} chunks, which {jax.device_count()} devices cannot "
            f"share equally; choose a `batch_size` that is a multiple of {jax.device_count()}"
        )
    if not NETWORKS[config.model.system].clusters:
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


def batch_chunks_of(config: TrainConfig, data: TrainingData) -> int:
    """Chunks per batch over all devices."""
    return config.batch_size * data.features.chunks_per_utterance


def _varying(split: Split, config: TrainConfig) -> tuple[str, ...]:
    """The attributes with different labels: others have a CCC of 0 or none, whatever is predicted."""
    columns = split.labels.of(config.model.attributes).T
    present = [column[np.isfinite(column)] for column in columns]
    return tuple(
        name
        for name, labels in zip(config.model.attributes, present, strict=True)
        if len(labels) and labels.min() < labels.max()
    )
