"""Agreement between predicted and human ratings of one attribute.

Pairs in which either number is not finite are left out: a missing label says nothing about a prediction. With no pair
left, every metric is NaN.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float


def ccc(prediction: Float[np.ndarray, " n"], target: Float[np.ndarray, " n"]) -> float:
    """Concordance correlation coefficient, -1 to 1 (Lin, Biometrics 45, 1989), with population variances.

    Constant ratings that are predicted exactly leave 0 / 0 and give NaN: there is no variation to agree about. If only
    one side is constant, or both are and differ, it is 0.

    Raises:
      ValueError: arrays of different shapes.
    """
    x, y = _complete_pairs(prediction, target)
    return float(ccc_of_rows(x, y)) if x.size else float("nan")


def ccc_of_rows(
    prediction: Float[np.ndarray, "*rows n"], target: Float[np.ndarray, "*#rows n"]
) -> Float[np.ndarray, "*rows"]:
    """`ccc` of many pairs of arrays at once, along the last axis; n is at least 1 and every number finite."""
    x, y = np.asarray(prediction, np.float64), np.asarray(target, np.float64)
    # Shifted and scaled alike, which leaves the coefficient as it is: tiny ratings must not vanish in the squares, nor
    # huge ones overflow.
    middle = x.mean(axis=-1, keepdims=True) / 2 + y.mean(axis=-1, keepdims=True) / 2
    x, y = x - middle, y - middle
    largest = np.maximum(np.abs(x).max(axis=-1, keepdims=True), np.abs(y).max(axis=-1, keepdims=True))
    largest[largest == 0] = 1.0
    x, y = x / largest, y / largest
    x_mean, y_mean = x.mean(axis=-1, keepdims=True), y.mean(axis=-1, keepdims=True)
    x, y = x - x_mean, y - y_mean
    covariance = np.mean(x * y, axis=-1)
    scale = np.mean(x * x, axis=-1) + np.mean(y * y, axis=-1) + (x_mean - y_mean)[..., 0] ** 2
    varies = scale > 0
    return np.where(varies, 2 * covariance / np.where(varies, scale, 1.0), np.nan)


def pearson(prediction: Float[np.ndarray, " n"], target: Float[np.ndarray, " n"]) -> float:
    """Pearson's correlation coefficient, -1 to 1; NaN where either side is constant.

    Raises:
      ValueError: arrays of different shapes.
    """
    x, y = _complete_pairs(prediction, target)
    if x.size == 0 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return float("nan")
    # Scaled for the same reason as in `ccc`.
    x, y = x - x.mean(), y - y.mean()
    x, y = x / np.abs(x).max(), y / np.abs(y).max()
    return float(np.clip(np.dot(x, y) / (np.linalg.norm(x) * np.linalg.norm(y)), -1.0, 1.0))


def rmse(prediction: Float[np.ndarray, " n"], target: Float[np.ndarray, " n"]) -> float:
    """Root of the mean squared error, in the unit of the ratings.

    Raises:
      ValueError: arrays of different shapes.
    """
    x, y = _complete_pairs(prediction, target)
    return float(np.sqrt(np.mean((x - y) ** 2))) if x.size else float("nan")


def _complete_pairs(
    prediction: Float[np.ndarray, " n"], target: Float[np.ndarray, " n"]
) -> tuple[Float[np.ndarray, " m"], Float[np.ndarray, " m"]]:
    """The pairs of two finite numbers, in double precision."""
    x, y = np.asarray(prediction, np.float64), np.asarray(target, np.float64)
    if x.shape != y.shape:
        raise ValueError(f"prediction has shape {x.shape} and target {y.shape}; expected the same")
    finite = np.isfinite(x) & np.isfinite(y)
    return x[finite], y[finite]
