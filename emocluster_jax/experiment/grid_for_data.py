"""Checks a requested grid against the prepared data."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from emocluster_jax.errors import InputError
from emocluster_jax.experiment.grid import Grid, TableName, sizes_within
from emocluster_jax.records.preparation import Preparation


def grid_for_data(
    data_dir: Path,
    preparation: Preparation,
    *,
    tables: tuple[TableName, ...],
    attributes: tuple[str, ...] | None,
    clusters: tuple[int, ...],
    unlabeled_sizes: tuple[int, ...] | None,
    trials: int,
) -> Grid:
    """The requested grid, without repetitions.

    `attributes` default to those that the training split has labels of, `unlabeled_sizes` to `sizes_within` the pool.

    Raises:
      InputError: the data do not have what is requested, or nothing is.
    """
    folds = preparation.folds
    if folds is None and "folds" in tables:
        raise InputError(f"`preset=folds` needs folds, which {data_dir} does not have; prepare it with `folds`")
    if folds is not None and tables != ("folds",):
        raise InputError(f"{data_dir} was prepared in folds; give `preset=folds` alone, or prepare it without `folds`")
    if not (tables and clusters):
        raise InputError("`preset` and `clusters` need at least one value each")
    for split in ("train", "test") if folds is None else ():
        if not preparation.counts.get(split):
            raise InputError(f"{data_dir} has no {split} split, which an experiment needs; prepare one")
    return Grid(
        tables,
        attributes=_attributes(data_dir, preparation, attributes),
        clusters=tuple(dict.fromkeys(clusters)),
        unlabeled_sizes=_unlabeled_sizes(data_dir, preparation.counts.get("unlabeled", 0), unlabeled_sizes),
        trials=trials,
        fold_count=0 if folds is None else folds.count,
    )


def _attributes(data_dir: Path, preparation: Preparation, asked: tuple[str, ...] | None) -> tuple[str, ...]:
    means = zip(preparation.labels, preparation.label_statistics.mean, strict=True)
    labelled = tuple(name for name, mean in means if np.isfinite(mean))
    wanted = labelled if asked is None else tuple(dict.fromkeys(asked))
    if not wanted or not set(wanted) <= set(labelled):
        raise InputError(
            f"`attributes` is {', '.join(wanted) or 'none'}; the training split of {data_dir} has labels of "
            f"{', '.join(labelled) or 'none'}"
        )
    return wanted


def _unlabeled_sizes(data_dir: Path, pool: int, asked: tuple[int, ...] | None) -> tuple[int, ...]:
    if asked is None:
        return sizes_within(pool)
    if not asked or min(asked) < 0 or max(asked) > pool:
        given = " ".join(map(str, asked)) or "empty"
        raise InputError(f"`unlabeled_sizes` is {given}; {data_dir} has 0 to {pool} unlabelled recordings")
    return tuple(sorted(set(asked)))
