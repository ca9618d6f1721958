"""Calibration: label statistics with which a model's predictions have the mean and deviation of labels.

A prediction is the network's output times the label deviation plus the label mean, so that other statistics shift and
scale all predictions of an attribute. Of all such maps with a positive scale, for predictions that correlate with the
labels by r > 0, the one that matches mean and deviation has the highest CCC, which then is r: the CCC is r times a
factor of at most 1 for differences of location and scale (Lin, Biometrics 45, 1989).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from emocluster_jax.config import CALIBRATION_RECORDINGS, LABEL
from emocluster_jax.errors import InputError
from emocluster_jax.evaluation.metrics import Scores
from emocluster_jax.inference.model_directory import SavedModel
from emocluster_jax.storage.json_files import as_record

CALIBRATION = "calibration"
"""The entry of a calibrated model's origin: a `Calibration` by attribute."""
FEWEST = CALIBRATION_RECORDINGS.lowest
"""Recordings with a label that a calibration needs."""
FEW = 20
"""With fewer recordings a calibration is uncertain."""
_GAIN = 0.05
"""What calibration must be able to add to a CCC to be worth naming."""
_ROUNDING = 1e-6
"""Values that differ by less than this part of their size are the same."""


@dataclass(frozen=True)
class Calibration:
    """What gave a model its label mean and deviation of one attribute.

    Attributes:
      data_dir: the records, as they were named.
      corpus: of these records.
      data: their fingerprint.
      split: the recordings' split.
      recordings: how many of it had a label.
      former_mean: the label mean from the model's training, whatever calibrations were in between.
      former_std: the label deviation from its training.
      fold: the one tested on, of records with folds.
      seed: with which the recordings were drawn; None if they are all of the split's.
    """

    data_dir: str
    corpus: str
    data: str
    split: str
    recordings: int
    former_mean: float
    former_std: float
    fold: int | None = None
    seed: int | None = None


def calibrations(model: SavedModel) -> dict[str, Calibration]:
    """A model's calibrations by attribute; without an entry, its statistics are those of its training.

    Raises InputError if what its origin says of them is damaged.
    """
    entries = model.origin.get(CALIBRATION, {})
    remedy = "calibrate the model that it was made from again"
    if not isinstance(entries, dict) or not entries.keys() <= set(model.config.attributes):
        raise InputError(f"the model's origin has a {CALIBRATION} that is not an object by attribute; {remedy}")
    return {
        name: as_record(Calibration, values, f"the model's origin: {CALIBRATION} of {name}", remedy)
        for name, values in entries.items()
    }


def matched_statistics(
    name: str, labels: Float[np.ndarray, " n"], predictions: Float[np.ndarray, " n"], mean: float, std: float
) -> tuple[float, float]:
    """The label mean and deviation of an attribute with which predictions have the mean and deviation of the labels.

    Args:
      name: the attribute, for messages.
      labels: of n recordings, NaN where there is none.
      predictions: of the same recordings, by a model with the label statistics `mean` and `std`.

    Raises:
      InputError: fewer than `FEWEST` recordings have a label and a finite prediction, or all labels or all predictions
        are the same.
    """
    used = np.isfinite(labels) & np.isfinite(predictions)
    if (count := int(used.sum())) < FEWEST:
        raise InputError(
            f"{count} recordings have a label of {name} and a finite prediction, and calibration needs {FEWEST} at "
            "least; give more recordings with that label"
        )
    y, x = labels[used].astype(np.float64), predictions[used].astype(np.float64)
    if np.ptp(y) <= _ROUNDING * np.abs(y).max():
        raise InputError(
            f"all {count} labels of {name} are {y[0]:g}, so that there is no deviation to match; give recordings with "
            "different labels"
        )
    scale = y.std() / x.std() if np.ptp(x) > _ROUNDING * np.abs(x).max() else np.inf
    matched = y.mean() + scale * (mean - x.mean())
    if not abs(matched) <= LABEL.highest:
        raise InputError(
            f"all {count} predictions of {name} are about {x[0]:g}: the model does not tell these recordings apart; "
            "give another model"
        )
    return float(matched), float(scale * std)


def reachable(scores: Mapping[str, Scores]) -> dict[str, float]:
    """What calibration could make of the CCC at most, Pearson's r, by attribute, where that adds more than `_GAIN`."""
    return {name: of.pearson for name, of in scores.items() if of.pearson - of.ccc > _GAIN}
