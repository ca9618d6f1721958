"""Predictions come back as they were, also those with awkward names and without a label."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from emocluster_jax.errors import InputError
from emocluster_jax.evaluation.run_results import SentencePredictions, read_test_predictions, write_test_predictions


def test_predictions_come_back(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    truth = rng.normal(4, 1, (3, 2)).astype(np.float32)
    truth[1, 1] = np.nan
    ids = ('a "b", c.wav', "sub/æøå\n音.flac", "carriage\rreturn.wav")
    written = SentencePredictions(ids, ("valence", "arousal"), truth, rng.normal(4, 1, (3, 2)).astype(np.float32))
    path = tmp_path / "test_predictions.csv"
    write_test_predictions(path, written)
    read = read_test_predictions(path)
    assert (read.ids, read.attributes) == (written.ids, written.attributes)
    np.testing.assert_array_equal(read.truth, truth)
    np.testing.assert_array_equal(read.predictions, written.predictions)
    header, first = path.read_text("utf-8").splitlines()[:2]
    assert header == "id,valence_truth,valence_prediction,arousal_truth,arousal_prediction"
    assert first.startswith('"a ""b"", c.wav",')


@pytest.mark.parametrize("content", ["", "id,arousal_truth\nx,1\n", "id,arousal_truth,arousal_prediction\nx,1,high\n"])
def test_other_files_are_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "test_predictions.csv"
    with pytest.raises(InputError, match="cannot be read"):
        read_test_predictions(path)
    path.write_text(content)
    with pytest.raises(InputError, match=r"test_predictions.csv cannot be read"):
        read_test_predictions(path)
