"""What chooses the best epoch: three metrics, each with its direction."""

from __future__ import annotations

import math

import numpy as np
import pytest

from emocluster_jax.evaluation.metrics import SELECTIONS, ccc, score_sentences, selection_values


def test_values_are_means_over_the_attributes_that_select() -> None:
    random = np.random.default_rng(0)
    truth = random.normal(size=(6, 3)).astype(np.float32)
    of_chunks = (truth[:, None] + random.normal(size=(6, 4, 3))).astype(np.float32)
    std = np.array([1, 10, 2], np.float32)
    names = ("arousal", "dominance", "valence")
    scores = score_sentences(truth * std, of_chunks.mean(axis=1) * std, names)
    found = selection_values(scores, of_chunks, truth, std, ("arousal", "valence"))
    errors = [np.sqrt(np.mean((of_chunks[:, :, i].mean(axis=1) - truth[:, i]) ** 2)) for i in (0, 2)]
    assert found["validation_rmse"] == pytest.approx(np.mean(errors), rel=1e-5)
    assert found["validation_ccc_mean"] == np.mean([scores["arousal"].ccc, scores["valence"].ccc])
    losses = [1 - ccc(of_chunks[:, :, i].ravel(), np.repeat(truth[:, i], 4)) for i in (0, 2)]
    assert found["validation_loss"] == np.mean(losses)
    assert all(map(math.isnan, selection_values(scores, of_chunks, truth, std, ()).values()))


def test_the_best_is_the_highest_ccc_and_the_lowest_rmse_and_loss() -> None:
    better = {name: selection.is_better(0.4, 0.3) for name, selection in SELECTIONS.items()}
    assert better == {"ccc": True, "rmse": False, "loss": False}
    assert not any(selection.is_better(0.3, 0.3) for selection in SELECTIONS.values())
    for selection in SELECTIONS.values():
        assert selection.is_better(0.4, -math.inf) and not selection.is_better(math.nan, 0.3)
