"""Significance of CCC differences, against the same computed by other means."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from emocluster_jax.evaluation.metrics import ccc, ccc_of_rows
from emocluster_jax.evaluation.significance import compare_ccc, subset_ccc

RNG = np.random.default_rng(0)
TRUTH = RNG.normal(4, 1, 200)
GOOD = TRUTH + RNG.normal(0, 0.5, (3, 200))
POOR = TRUTH + RNG.normal(0, 1.5, (2, 200))


def test_ccc_of_rows_is_the_ccc_of_each() -> None:
    rows = np.concatenate([GOOD, np.full((1, 200), 4.0)])
    # The same sums in the same order: not a bit may differ.
    assert ccc_of_rows(rows, TRUTH).tolist() == [ccc(row, TRUTH) for row in rows]
    assert math.isnan(ccc_of_rows(np.ones((2, 3)), np.ones((2, 3)))[1])


def test_subsets_are_30_disjoint_ones_that_cover_the_split() -> None:
    values = subset_ccc(TRUTH, GOOD)
    order = np.random.default_rng(2021).permutation(200)
    expected = [np.mean([ccc(trial[part], TRUTH[part]) for trial in GOOD]) for part in np.array_split(order, 30)]
    np.testing.assert_allclose(values, expected, rtol=1e-12)  # only the order of a mean of 3 may differ


def test_the_t_test_is_that_of_the_textbook() -> None:
    found = compare_ccc(TRUTH, GOOD, POOR)
    differences = subset_ccc(TRUTH, GOOD) - subset_ccc(TRUTH, POOR)
    t = differences.mean() / (differences.std(ddof=1) / math.sqrt(30))
    assert found.t == pytest.approx(t, rel=1e-10)
    assert found.p_value == pytest.approx(stats.t.sf(t, 29), rel=1e-8)
    assert found.significant and found.subsets == 30 and found.sentences == 200
    reverse = compare_ccc(TRUTH, POOR, GOOD)
    assert reverse.p_value == pytest.approx(1 - found.p_value) and not reverse.significant
    assert reverse.difference == -found.difference


def test_the_interval_is_that_of_resampled_sentences() -> None:
    found = compare_ccc(TRUTH, GOOD, POOR)
    rng = np.random.default_rng(5)
    differences = []
    for _ in range(2_000):
        drawn = rng.integers(0, 200, 200)
        ours, theirs = ([ccc(trial[drawn], TRUTH[drawn]) for trial in trials] for trials in (GOOD, POOR))
        differences.append(np.mean(ours) - np.mean(theirs))
    # Two bootstraps with other draws: their ends scatter by a few hundredths of the interval's width (0.16).
    np.testing.assert_allclose(found.interval, np.percentile(differences, [2.5, 97.5]), atol=0.012)
    assert found.interval[0] < found.difference < found.interval[1]


def test_unlabelled_sentences_are_left_out() -> None:
    gaps = np.insert(TRUTH, [3, 90], np.nan)
    with_gaps = [np.insert(trials, [3, 90], 9.0, axis=1) for trials in (GOOD, POOR)]
    assert compare_ccc(gaps, *with_gaps) == compare_ccc(TRUTH, GOOD, POOR)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_without_all_predictions_there_is_no_verdict(value: float) -> None:
    """The subsets without them would still say that the better system is better, with p = 1e-12."""
    some = GOOD.copy()
    some[1, 7] = some[2, 7] = value
    for one, other in ((some, POOR), (POOR, some)):
        found = compare_ccc(TRUTH, one, other)
        assert found.significant is None and found.not_finite == 1 and found.sentences == 200 and found.subsets == 0
        assert all(math.isnan(number) for number in (found.difference, *found.interval, found.t, found.p_value))
    # Of a sentence without a label no prediction is needed.
    gap = np.where(np.arange(200) == 7, np.nan, TRUTH)
    assert compare_ccc(gap, some, POOR) == compare_ccc(gap, GOOD, POOR)


def test_equal_systems_and_tiny_splits() -> None:
    same = compare_ccc(TRUTH, GOOD, GOOD)
    assert same.difference == 0 and same.interval == (0, 0)
    assert math.isnan(same.p_value) and same.significant is None
    assert compare_ccc(TRUTH[:9], GOOD[:, :9], POOR[:, :9]).subsets == 4
    assert not compare_ccc(TRUTH[:4], GOOD[:, :4], POOR[:, :4]).too_few
    for count in (0, 1, 3):
        few = compare_ccc(TRUTH[:count], GOOD[:, :count], POOR[:, :count])
        assert few.too_few and few.significant is None and few.subsets <= 1
    nothing = compare_ccc(np.full(5, np.nan), GOOD[:, :5], POOR[:, :5])
    assert nothing.sentences == 0 and math.isnan(nothing.difference) and nothing.significant is None
