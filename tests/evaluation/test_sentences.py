from __future__ import annotations

import numpy as np

from emocluster_jax.evaluation.metrics import score_sentences


def test_scores_are_of_the_sentences_with_a_label_and_a_finite_prediction() -> None:
    random = np.random.default_rng(0)
    truth = random.normal(size=(12, 2)).astype(np.float32)
    predictions = truth + random.normal(size=(12, 2)).astype(np.float32)
    scored = np.arange(12) >= 4
    expected = score_sentences(truth[scored], predictions[scored], ("arousal", "valence"))

    truth[[0, 1], 0] = np.nan
    predictions[[0, 2, 3], 0] = np.nan, np.nan, np.inf
    scores = score_sentences(truth, predictions, ("arousal", "valence"))

    arousal = scores["arousal"]
    assert (arousal.n, arousal.not_finite) == (8, 2)  # one has neither label nor prediction
    assert (arousal.ccc, arousal.pearson, arousal.rmse) == (
        expected["arousal"].ccc,
        expected["arousal"].pearson,
        expected["arousal"].rmse,
    )
    assert (scores["valence"].n, scores["valence"].not_finite) == (12, 0)
