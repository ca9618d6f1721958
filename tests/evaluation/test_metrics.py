"""CCC, Pearson's r and RMSE: the reference's number, bounds, symmetry, missing labels, degenerate input."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from emocluster_jax.evaluation.metrics import ccc, pearson, rmse

RATINGS = hnp.arrays(np.float64, st.integers(2, 30).map(lambda n: (2, n)), elements=st.floats(-1e3, 1e3))


def test_ccc_matches_the_reference(reference: Path) -> None:
    data = np.load(reference / "parity" / "ccc.npz")
    assert ccc(data["prediction"], data["target"]) == pytest.approx(float(data["ccc_metric"]), abs=1e-5)


def test_pearson_and_rmse_match_scipy_and_the_definition() -> None:
    from scipy import stats

    x, y = np.random.default_rng(0).normal(size=(2, 100))
    assert pearson(x, y) == pytest.approx(stats.pearsonr(x, y).statistic, abs=1e-12)
    assert rmse(np.array([1.0, 2.0]), np.array([4.0, 6.0])) == pytest.approx(math.sqrt(12.5))


@given(RATINGS)
def test_bounds_and_symmetry(ratings: np.ndarray) -> None:
    x, y = ratings
    for metric in (ccc, pearson):
        value = metric(x, y)
        assert math.isnan(value) or -1 - 1e-12 <= value <= 1 + 1e-12
        assert value == pytest.approx(metric(y, x), abs=1e-12, nan_ok=True)
    assert rmse(x, y) == rmse(y, x) >= 0
    # A shift or a scale that the correlation forgives costs agreement.
    if not (math.isnan(ccc(x, y)) or math.isnan(pearson(x, y))):
        assert abs(ccc(x, y)) <= abs(pearson(x, y)) + 1e-9


@given(hnp.arrays(np.float64, st.integers(0, 6).map(lambda n: (2, n)), elements=st.floats()))
def test_any_numbers_at_all(ratings: np.ndarray) -> None:
    """NaN, infinities, and sizes whose squares leave float64: a number within the bounds, or NaN."""
    x, y = ratings
    for metric in (ccc, pearson):
        value = metric(x, y)
        assert math.isnan(value) or -1 - 1e-12 <= value <= 1 + 1e-12
    with np.errstate(over="ignore"):  # infinite where the squares are
        assert not rmse(x, y) < 0


def test_missing_labels_are_left_out() -> None:
    x, y = np.array([1.0, 2.0, 3.0, 4.0, 9.0]), np.array([1.5, 2.0, np.nan, 3.0, np.inf])
    for metric in (ccc, pearson, rmse):
        assert metric(x, y) == metric(x[[0, 1, 3]], y[[0, 1, 3]])
        assert math.isnan(metric(x, np.full(5, np.nan)))
        assert math.isnan(metric(np.array([]), np.array([])))


def test_constant_ratings() -> None:
    constant, varied = np.full(4, 0.1), np.array([0.0, 1.0, 2.0, 3.0])
    assert ccc(varied, varied) == pytest.approx(1)
    assert ccc(constant, varied) == ccc(varied, constant) == pytest.approx(0, abs=1e-12)
    assert ccc(constant, constant + 1) == pytest.approx(0, abs=1e-12)
    assert math.isnan(ccc(constant, constant))
    assert math.isnan(pearson(constant, varied))
    assert rmse(constant, constant) == 0
