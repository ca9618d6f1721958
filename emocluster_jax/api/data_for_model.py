"""Opening prepared records for a model, with the fold that it is tested on."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from emocluster_jax.console import Console
from emocluster_jax.errors import InputError
from emocluster_jax.inference.model_directory import SavedModel, model_folder
from emocluster_jax.records.reader import PreparedData, open_data
from emocluster_jax.runtime import parallel
from emocluster_jax.settings import to_dict
from emocluster_jax.training.workdir import RUN_FILE, read_run


def open_data_for(
    saved: SavedModel, model: Path, data_dir: Path, fold: int | None, console: Console, pool: bool = False
) -> PreparedData:
    """Opens records that were made as the model's training data were.

    Args:
      saved: the model.
      model: its model directory, or a work directory of training, where the model's run is beside it.
      data_dir: prepared records.
      fold: for data with folds, the one to test on; None for that of the model's run, if these are the run's data.
      console: shows a warning if the model was trained on what it will be tested on.
      pool: whether only the unlabelled pool is read, which is the same for all folds.

    Raises:
      InputError: there are none, they have other features or another normalisation, no such fold, or folds of which
        none was chosen.
    """
    data = open_data(data_dir, fold)
    features = data.preparation.features
    if saved.features != features:
        own = to_dict(saved.features)
        different = [
            f"{name} {value}, not {own[name]}"
            for name, value in to_dict(features).items()
            if own.get(name, value) != value
        ]
        raise InputError(
            f"{data_dir} was prepared with other feature settings than the model's training data "
            f"({'; '.join(different) or features.summary}); prepare it with the same"
        )
    statistics = data.preparation.feature_statistics
    if not saved.normalized_by(statistics.mean, statistics.std):
        raise InputError(
            f"{data_dir} was normalised with other statistics than the model's training data; prepare the corpus for "
            "this model, with `statistics_from` the model directory"
        )
    if missing := dict(saved.inputs).items() - dict(data.preparation.inputs).items():
        raise InputError(
            f"{data_dir} does not have all inputs that the model reads: "
            f"{', '.join(f'{name} of {length} numbers' for name, length in sorted(missing))}; prepare recordings with "
            "them"
        )
    if pool:
        return data
    workdir = model_folder(model).absolute().parent
    if data.preparation.folds is not None and (workdir / RUN_FILE).exists():
        run = read_run(workdir)
        if run.data in data.preparation.fingerprints:
            if fold is None:
                data = dataclasses.replace(data, fold=run.config.fold)
            elif fold != run.config.fold and parallel.is_primary():
                console.warn(
                    f"the run of {model} had `fold={run.config.fold}`: it trained on what `fold={fold}` tests on, or "
                    "chose its best epoch by it"
                )
    data.check_fold()
    return data
