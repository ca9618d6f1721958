"""Predictions come back as they were, also those with awkward names and without a label."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path

import numpy as np
import pytest

from emocluster_jax.errors import InputError
from emocluster_jax.evaluation.cluster_information import ClusterInformation, Information
from emocluster_jax.evaluation.metrics import Scores
from emocluster_jax.evaluation.run_results import (
    RunScores,
    SentencePredictions,
    read_clusters,
    read_run_scores,
    read_test_predictions,
    write_clusters,
    write_run_scores,
    write_test_predictions,
)
from emocluster_jax.storage.json_files import write_sealed


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


def test_scores_come_back_with_those_of_each_input_alone(tmp_path: Path) -> None:
    path = tmp_path / "test.json"
    scores, other = Scores(0.5, 0.6, 1.0, 9), Scores(math.nan, math.nan, 2.0, 4, 1)
    written = RunScores({"arousal": scores, "valence": scores}, "of a file", {"arousal": {"audio": scores}})
    write_run_scores(path, "run", written)
    assert read_run_scores(path, "run") == written
    write_run_scores(path, "run", RunScores({"arousal": scores}, "of a file", {"arousal": {"text": other}}))
    found = read_run_scores(path, "run").alone["arousal"]["text"]
    assert math.isnan(found.ccc) and (found.rmse, found.n, found.not_finite) == (2.0, 4, 1)


@pytest.mark.parametrize("alone", [[], {"text": 3}, {"text": {"ccc": 0.1}}, {"text": {"ccc": "high"}}])
def test_scores_alone_that_are_none_are_refused(tmp_path: Path, alone: object) -> None:
    path = tmp_path / "test.json"
    values = {"ccc": 0.5, "pearson": 0.5, "rmse": 1.0, "n": 3, "not_finite": 0, "alone": alone}
    write_sealed(path, {"run": "run", "predictions_sha256": "of a file", "scores": {"arousal": values}})
    with pytest.raises(InputError, match=r"test\.json: arousal.*; finish the training again"):
        read_run_scores(path, "run")


KNOWN = Information(3, 8, 0.2, 0.3, 0.2, 0.1, 0.04, 0.5, "sentences", 8, 8)
OF_ALL = ClusterInformation({"arousal": KNOWN}, KNOWN, None, 5, 999)


def test_what_clusters_know_comes_back_with_what_each_input_alone_tells(tmp_path: Path) -> None:
    path = tmp_path / "clusters.json"
    of_text = ClusterInformation({}, None, KNOWN, 5, 999)
    written = dataclasses.replace(OF_ALL, alone={"audio": OF_ALL, "text": of_text})
    write_clusters(path, "run", 3, written)
    assert read_clusters(path, "run", 3) == written
    assert read_clusters(path, "run", 4) is None
    assert "alone" not in json.loads(path.read_text())["alone"]["text"]
    # Where there is the audio alone, the file is as earlier versions wrote it.
    write_clusters(path, "run", 3, OF_ALL)
    assert read_clusters(path, "run", 3) == OF_ALL and "alone" not in json.loads(path.read_text())


@pytest.mark.parametrize(
    "alone",
    [
        [],
        {"text": 3},
        {"text": {"attributes": []}},
        {"text": {"attributes": {}}},
        {"text": {"attributes": {"arousal": 0.5}, "speaker": None, "gender": None, "bins": 5, "permutations": 9}},
        {"text": {"attributes": {}, "speaker": 0.5, "gender": None, "bins": 5, "permutations": 9}},
        {"text": {"attributes": {}, "speaker": None, "gender": None, "bins": 5, "permutations": 9, "alone": {}}},
    ],
)
def test_what_is_not_known_by_an_input_alone_is_refused(tmp_path: Path, alone: object) -> None:
    path = tmp_path / "clusters.json"
    write_clusters(path, "run", 3, OF_ALL)
    write_sealed(path, {**json.loads(path.read_text()), "alone": alone})
    with pytest.raises(InputError, match=r"clusters\.json: (text )?alone.*; finish the training again"):
        read_clusters(path, "run", 3)
