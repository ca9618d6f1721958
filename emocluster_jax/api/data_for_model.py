"""Prepared records that a model can read, and which of their recordings it is tested on."""

from __future__ import annotations

from pathlib import Path

from emocluster_jax.console import Console
from emocluster_jax.errors import InputError
from emocluster_jax.inference.model_directory import SavedModel, model_folder
from emocluster_jax.records.preparation import Preparation, read_preparation
from emocluster_jax.records.splits import check_fold
from emocluster_jax.runtime import parallel
from emocluster_jax.settings import to_dict
from emocluster_jax.training.workdir import RUN_FILE, read_run


def read_preparation_for(model: SavedModel, data_dir: Path) -> Preparation:
    """What is known of records that were made as the model's training data were.

    Raises:
      InputError: there are none, or they have other features or another normalisation.
    """
    preparation = read_preparation(data_dir)
    if model.features != preparation.features:
        own = to_dict(model.features)
        different = [
            f"{name} {value}, not {own[name]}"
            for name, value in to_dict(preparation.features).items()
            if own.get(name, value) != value
        ]
        raise InputError(
            f"{data_dir} was prepared with other feature settings than the model's training data "
            f"({'; '.join(different) or preparation.features.summary}); prepare it with the same"
        )
    statistics = preparation.feature_statistics
    if not model.normalized_by(statistics.mean, statistics.std):
        raise InputError(
            f"{data_dir} was normalised with other statistics than the model's training data; prepare the corpus for "
            "this model, with `statistics_from` the model directory"
        )
    return preparation


def fold_for(model: Path, data_dir: Path, preparation: Preparation, fold: int | None, console: Console) -> int | None:
    """The fold to test on: the one that is asked for, or else that of the model's run, if these are the run's data.

    Args:
      model: a model directory, or a work directory of training. In its work directory a model has its run beside it.
      data_dir: prepared records.
      preparation: what they say of themselves.
      fold: asked for; None leaves it to the run.
      console: warned where the model was trained on what it is to be tested on.

    Raises:
      InputError: the data have no such fold, or have folds, and nothing says which.
    """
    workdir = model_folder(model).absolute().parent
    if preparation.folds is not None and (workdir / RUN_FILE).exists():
        run = read_run(workdir)
        if run.data in preparation.fingerprints:
            fold = run.config.fold if fold is None else fold
            if fold != run.config.fold and parallel.is_primary():
                console.warn(
                    f"the run of {model} had `fold={run.config.fold}`: it trained on what `fold={fold}` tests on, or "
                    "chose its best epoch by it"
                )
    check_fold(preparation, data_dir, fold)
    return fold
