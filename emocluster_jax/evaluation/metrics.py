"""Agreement between predicted and human ratings of one attribute.

Pairs in which either number is not finite are left out. If no pair is left, every metric is NaN. Arrays of different
shapes raise ValueError.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float


def ccc(prediction: Float[np.ndarray, " n"], target: Float[np.ndarray, " n"]) -> float:
    """Concordance correlation coefficient, -1 to 1 (Lin, Biometrics 45, 1989), with population variances.

    It is NaN if both sides are the same constant, as 0 / 0, and 0 if only one is constant or the constants differ.
    """
    x, y = _complete_pairs(prediction, target)
    return float(ccc_of_rows(x, y)) if x.size else float("nan")


def ccc_of_rows(
    prediction: Float[np.ndarray, "*rows n"], target: Float[np.ndarray, "*#rows n"]
) -> Float[np.ndarray, "*rows"]:
    """`ccc` of many pairs of arrays at once, along the last axis; n is at least 1 and every number finite."""
    x, y = np.asarray(prediction, np.float64), np.asarray(target, np.float64)
    # Shifting and scaling both alike does not change the coefficient, but keeps the squares from vanishing or
    # overflowing.
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
    """Pearson's correlation coefficient, -1 to 1; NaN if either side is constant."""
    x, y = _complete_pairs(prediction, target)
    if x.size == 0 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return float("nan")
    # Scaled for the same reason as in `ccc`.
    x, y = x - x.mean(), y - y.mean()
    x, y = x / np.abs(x).max(), y / np.abs(y).max()
    return float(np.clip(np.dot(x, y) / (np.linalg.norm(x) * np.linalg.norm(y)), -1.0, 1.0))


def rmse(prediction: Float[np.ndarray, " n"], target: Float[np.ndarray, " n"]) -> float:
    """Root of the mean squared error, in the unit of the ratings."""
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
