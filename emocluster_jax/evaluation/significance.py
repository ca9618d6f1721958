"""Whether one system's CCC on a test split is higher than another's.

There are two answers. As Lin & Busso report it, the split is cut into 30 random subsets, each subset's CCC is one
observation, and a paired one-tailed t-test compares the systems. A paired bootstrap over the sentences gives an
interval for the difference. Neither corrects for the number of comparisons.

With several trials, the CCC of a subset or resample is the mean over the trials: the question is about the system that
one gets by training once more, not about the best trial or an ensemble. Only sentences are drawn at random; the trials'
standard deviation shows how much they vary.
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
"""The fewest sentences that have a CCC."""
FEWEST = 2 * _MIN_SUBSET
"""The fewest sentences for a t-test: those of two subsets."""
_BATCH_VALUES = 4_000_000
"""How many numbers the bootstrap holds at a time."""


@dataclass(frozen=True)
class Comparison:
    """How a system's CCC compares with a baseline's.

    Attributes:
      difference: CCC over all sentences, the mean over trials, system minus baseline.
      interval: of the difference, the middle `CONFIDENCE` of the bootstrap's percentiles.
      t: statistic of the paired t-test over the subsets.
      p_value: one-tailed; NaN if there is nothing to test, as with fewer than two subsets or the same difference in
        all.
      subsets: how many were tested; 30 unless the test split has less than 60 sentences.
      sentences: those with a label.
      not_finite: those of them for which a trial's prediction is NaN or infinite. If there is one, nothing is compared:
        the numbers above are NaN and `subsets` is 0.
    """

    difference: float
    interval: tuple[float, float]
    t: float
    p_value: float
    subsets: int
    sentences: int
    not_finite: int = 0

    @property
    def too_few(self) -> bool:
        """Whether there are fewer sentences than `FEWEST`."""
        return self.sentences < FEWEST

    @property
    def significant(self) -> bool | None:
        """Whether the system is better, by the t-test at `LEVEL`; None if nothing is tested."""
        return None if np.isnan(self.p_value) else self.p_value < LEVEL


def compare_ccc(
    truth: Float[np.ndarray, " n"],
    system: Float[np.ndarray, "trials n"],
    baseline: Float[np.ndarray, "baseline_trials n"],
) -> Comparison:
    """Compares two systems' predictions, of at least one trial each, for the same sentences (NaN: no label)."""
    from scipy.stats import ttest_rel

    known = np.isfinite(truth)
    truth, system, baseline = truth[known], system[:, known], baseline[:, known]
    nan = float("nan")
    if not_finite := int((~np.isfinite(np.concatenate([system, baseline]))).any(axis=0).sum()):
        # Leaving these sentences out would compare systems on the sentences that they can predict.
        return Comparison(nan, (nan, nan), nan, nan, subsets=0, sentences=len(truth), not_finite=not_finite)
    ours, theirs = (subset_ccc(truth, predictions) for predictions in (system, baseline))
    # A subset without variation has no CCC.
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
    """The CCC of each subset, which depends on `n` alone, the mean over the trials; NaN for one that does not vary."""
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
