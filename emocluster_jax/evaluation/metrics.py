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
    if x.size == 0:
        return float("nan")
    # Shifted and scaled alike, which leaves the coefficient as it is: tiny ratings must not vanish in the squares, nor
    # huge ones overflow.
    middle = x.mean() / 2 + y.mean() / 2
    x, y = x - middle, y - middle
    largest = max(np.abs(x).max(), np.abs(y).max())
    if largest == 0:
        return float("nan")
    x, y = x / largest, y / largest
    covariance = np.mean((x - x.mean()) * (y - y.mean()))
    scale = x.var() + y.var() + (x.mean() - y.mean()) ** 2
    return float(2 * covariance / scale) if scale > 0 else float("nan")


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
