"""Whether one system's CCC on a test split is higher than another's.

Two answers. The field's: the split is cut into 30 random subsets, the CCC of each subset is one observation, and a
paired one-tailed t-test compares the systems (as Lin & Busso report it). And a paired bootstrap over the sentences,
which gives an interval for the difference. Neither corrects for the number of comparisons made.

Of several trials a subset's CCC, and a resample's, is the mean over them: the question is about the system that one
gets by training once more, not about the best of its trials, nor about their ensemble, which averaged predictions would
be. Sentences are what is drawn at random; how much the trials themselves vary, their standard deviation says.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from emocluster_jax.evaluation.metrics import ccc_of_rows

SUBSETS = 30
LEVEL = 0.05
RESAMPLES = 2_000
CONFIDENCE = 0.95
_SUBSET_SEED = 2021
_BOOTSTRAP_SEED = 2021
_MIN_SUBSET = 2
"""Sentences that a CCC needs at least."""
_BATCH_VALUES = 4_000_000
"""Numbers that the bootstrap holds at a time."""


@dataclass(frozen=True)
class Comparison:
    """How a system's CCC compares with a baseline's.

    Attributes:
      difference: CCC over all sentences, the mean over trials, system minus baseline.
      interval: of the difference, by percentiles of the bootstrap, `CONFIDENCE` of them between its ends.
      t: statistic of the paired t-test over the subsets.
      p_value: one-tailed: how likely so large a t is where the system is not better. NaN where nothing is tested: the
        difference is not defined or the same in all subsets, or there are fewer than two of these.
      subsets: how many the test rests on; 30 but for test splits of less than 60 sentences.
      sentences: those with a label.
      not_finite: those of them for which a trial's prediction is NaN or infinite. With one of them nothing is compared:
        all other numbers are NaN, `subsets` is 0.
    """

    difference: float
    interval: tuple[float, float]
    t: float
    p_value: float
    subsets: int
    sentences: int
    not_finite: int = 0

    @property
    def significant(self) -> bool | None:
        """Whether the system is better, by the t-test at `LEVEL`; None where nothing is tested."""
        return None if np.isnan(self.p_value) else self.p_value < LEVEL


def compare_ccc(
    truth: Float[np.ndarray, " n"],
    system: Float[np.ndarray, "trials n"],
    baseline: Float[np.ndarray, "baseline_trials n"],
) -> Comparison:
    """Compares the predictions of two systems for the same sentences; the same input gives the same result.

    Args:
      truth: of every sentence, NaN where there is no label.
      system: predictions of at least one trial.
      baseline: likewise.
    """
    from scipy.stats import ttest_rel

    known = np.isfinite(truth)
    truth, system, baseline = truth[known], system[:, known], baseline[:, known]
    nan = float("nan")
    if not_finite := int((~np.isfinite(np.concatenate([system, baseline]))).any(axis=0).sum()):
        # Without these sentences it would be another comparison: of systems that predict the rest.
        return Comparison(nan, (nan, nan), nan, nan, subsets=0, sentences=len(truth), not_finite=not_finite)
    ours, theirs = (subset_ccc(truth, predictions) for predictions in (system, baseline))
    # A subset without any variation has no CCC.
    paired = np.isfinite(ours) & np.isfinite(theirs)
    ours, theirs = ours[paired], theirs[paired]
    difference = t = p_value = nan
    if len(ours) > 1 and np.ptp(ours - theirs) > 0:
        test: Any = ttest_rel(ours, theirs, alternative="greater")
        t, p_value = float(test.statistic), float(test.pvalue)
    if len(truth):
        difference = float(ccc_of_rows(system, truth).mean() - ccc_of_rows(baseline, truth).mean())
    interval = _interval(truth, system, baseline)
    return Comparison(difference, interval, t, p_value, subsets=len(ours), sentences=len(truth))


def subset_ccc(truth: Float[np.ndarray, " n"], predictions: Float[np.ndarray, "trials n"]) -> Float[np.ndarray, " s"]:
    """The CCC of each random subset, as the mean over the trials; NaN where a subset does not vary.

    The subsets are the same for all predictions of the same number of sentences.
    """
    order = np.random.default_rng(_SUBSET_SEED).permutation(len(truth))
    subsets = np.array_split(order, max(min(SUBSETS, len(truth) // _MIN_SUBSET), 1)) if len(truth) else []
    return np.array([ccc_of_rows(predictions[:, subset], truth[subset]).mean() for subset in subsets], np.float64)


def _interval(
    truth: Float[np.ndarray, " n"], system: Float[np.ndarray, "trials n"], baseline: Float[np.ndarray, "trials_b n"]
) -> tuple[float, float]:
    from scipy.stats import bootstrap

    if len(truth) < _MIN_SUBSET:
        return float("nan"), float("nan")
    samples = (truth, *system, *baseline)

    def statistic(*drawn: Float[np.ndarray, "*resamples n"], axis: int) -> Float[np.ndarray, "*resamples"]:
        assert axis == -1
        truth, *predictions = drawn
        values = [ccc_of_rows(prediction, truth) for prediction in predictions]
        return np.mean(values[: len(system)], axis=0) - np.mean(values[len(system) :], axis=0)

    result = bootstrap(
        samples,
        statistic,
        paired=True,
        vectorized=True,
        axis=-1,
        n_resamples=RESAMPLES,
        batch=max(_BATCH_VALUES // (len(samples) * len(truth)), 1),
        confidence_level=CONFIDENCE,
        method="percentile",
        rng=np.random.default_rng(_BOOTSTRAP_SEED),
    )
    return float(result.confidence_interval.low), float(result.confidence_interval.high)
