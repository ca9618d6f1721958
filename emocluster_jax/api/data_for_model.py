"""Prepared records that a model can read."""

from __future__ import annotations

from pathlib import Path

from emocluster_jax.errors import InputError
from emocluster_jax.model_directory import SavedModel
from emocluster_jax.records.preparation import Preparation, read_preparation


def read_preparation_for(model: SavedModel, data_dir: Path) -> Preparation:
    """What is known of records that were made as the model's training data were.

    Raises:
      InputError: there are none, or they have other features or another normalisation.
    """
    preparation = read_preparation(data_dir)
    if model.features != preparation.features:
        raise InputError(
            f"{data_dir} was prepared with other feature settings than the model; prepare it with the same"
        )
    statistics = preparation.feature_statistics
    if not model.normalized_by(statistics.mean, statistics.std):
        raise InputError(
            f"{data_dir} was normalised with other statistics than the model's training data; prepare the corpus for "
            "this model, with --statistics-from the model directory"
        )
    return preparation
