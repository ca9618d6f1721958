from __future__ import annotations

import numpy as np
import pytest

from emocluster_jax.errors import InputError
from emocluster_jax.evaluation.calibration import matched_statistics, reachable
from emocluster_jax.evaluation.metrics import Scores, ccc, pearson


def test_the_ccc_is_pearsons_r_which_no_other_map_exceeds() -> None:
    rng = np.random.default_rng(0)
    output = rng.normal(0.3, 0.1, 30)  # of the network
    labels = -0.2 + 2 * (output + rng.normal(0, 0.1, 30))
    labels[:3] = np.nan
    known = np.isfinite(labels)
    mean, std = matched_statistics("arousal", labels, output * 1.1 + 4, 4, 1.1)
    calibrated = output * std + mean
    assert calibrated[known].mean() == pytest.approx(labels[known].mean())
    assert calibrated[known].std() == pytest.approx(labels[known].std())
    assert ccc(calibrated, labels) == pytest.approx(pearson(output, labels))
    for scale, shift in ((0.9, 0), (1.1, 0), (1, 0.1), (1, -0.1)):
        assert ccc(scale * calibrated + shift, labels) < ccc(calibrated, labels)
    # Once more changes nothing.
    assert matched_statistics("arousal", labels, calibrated, mean, std) == pytest.approx((mean, std))


def test_the_scale_is_positive() -> None:
    output = np.arange(6.0)
    mean, std = matched_statistics("arousal", -output, output, 0, 1)
    assert std == pytest.approx(1) and ccc(output * std + mean, -output) == pytest.approx(-1)


@pytest.mark.parametrize(
    ("labels", "predictions", "reason"),
    [
        ([1, 2, 3, 4, np.nan, 6], [1, 2, 3, 4, 5, np.inf], "4 recordings have a label of arousal and a finite"),
        ([2.5] * 6, [1, 2, 3, 4, 5, 6], "all 6 labels of arousal are 2.5"),
        ([0] * 6, [1, 2, 3, 4, 5, 6], "all 6 labels of arousal are 0"),
        ([1, 2, 3, 4, 5, 6], [3.5] * 6, "all 6 predictions of arousal are about 3.5"),
        ([1, 2, 3, 4, 5, 6], [0] * 6, "all 6 predictions of arousal are about 0"),
        ([1e5, 2e5, 3, 4, 5, 6], np.linspace(1, 1.0001, 6), "all 6 predictions of arousal are about 1"),
    ],
)
def test_what_cannot_be_calibrated(labels: list[float], predictions: list[float], reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        matched_statistics("arousal", np.array(labels, float), np.array(predictions, float), 4, 1)


def test_what_calibration_could_reach() -> None:
    scores = {"a": Scores(0.5, 0.8, 1, 9), "b": Scores(0.78, 0.8, 1, 9), "c": Scores(-0.1, -0.8, 1, 9)}
    assert reachable(scores | {"d": Scores(np.nan, np.nan, np.nan, 0)}) == {"a": 0.8}
