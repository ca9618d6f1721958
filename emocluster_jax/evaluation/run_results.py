"""The results of a finished run: `test_predictions.csv`, their scores in `test.json`, and `clusters.json`.

`clusters.json` has the information in the clusters of the best epoch. Each JSON file names its run.
"""

from __future__ import annotations

import csv
import hashlib
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32

from emocluster_jax.errors import InputError
from emocluster_jax.evaluation.cluster_information import ClusterInformation, Information
from emocluster_jax.evaluation.metrics import Scores, ScoresAlone
from emocluster_jax.storage.atomic_files import replacing_csv
from emocluster_jax.storage.checksums import read_bytes
from emocluster_jax.storage.json_files import RUN_ENTRY, as_record, check_run, read_sealed, shortened, write_sealed

TEST_PREDICTIONS = "test_predictions.csv"
TEST_SCORES = "test.json"
CLUSTERS_FILE = "clusters.json"
_REMEDY = "finish the training again with `resume`, which rewrites it"
_MOST_PREDICTION_BYTES = 128 << 20
"""A million sentences."""
_LARGEST_PREDICTION = float(np.finfo(np.float32).max)
_LARGEST_SCORE = 1e100
"""Far above any error of single-precision numbers; its square fits double precision."""


@dataclass(frozen=True)
class SentencePredictions:
    """Predicted and rated attributes of a split's sentences, in its order and in label units; NaN without a label."""

    ids: tuple[str, ...]
    attributes: tuple[str, ...]
    truth: Float32[np.ndarray, "utterances A"]
    predictions: Float32[np.ndarray, "utterances A"]


def write_test_predictions(path: Path, sentences: SentencePredictions) -> None:
    """Writes columns `id` and, for each attribute, `NAME_truth,NAME_prediction`; an empty cell for a missing label.

    Numbers have just enough digits to identify them in float32.
    """
    with replacing_csv(path) as rows:
        rows.writerow(_header(sentences.attributes))
        for sentence_id, truth, predictions in zip(sentences.ids, sentences.truth, sentences.predictions, strict=True):
            pairs = np.stack([truth, predictions], axis=-1).ravel()
            rows.writerow([sentence_id, *(str(value) if np.isfinite(value) else "" for value in pairs)])


def read_test_predictions(path: Path, sha256: str | None = None) -> SentencePredictions:
    """Reads what `write_test_predictions` wrote; `sha256` is of the content behind the run's scores, None for any."""
    try:
        content = read_bytes(path, _REMEDY, _MOST_PREDICTION_BYTES)
    except FileNotFoundError:
        raise InputError(f"{path} cannot be read (no such file); {_REMEDY}") from None
    if sha256 is not None and hashlib.sha256(content).hexdigest() != sha256:
        raise InputError(f"{path} is damaged or not the predictions behind the scores (its SHA-256 differs); {_REMEDY}")
    try:
        header, *rows = csv.reader(io.StringIO(content.decode("utf-8"), newline=""))
        attributes = tuple(name.removesuffix("_truth") for name in header[1::2])
        if header != _header(attributes):
            raise ValueError(f"its columns are {','.join(header)}")
        values = np.array([_numbers(row, len(header), number) for number, row in enumerate(rows, start=1)])
    except (ValueError, csv.Error) as error:
        raise InputError(f"{path} cannot be read ({shortened(str(error))}); {_REMEDY}") from None
    values = values.astype(np.float32).reshape(len(rows), len(attributes), 2)
    return SentencePredictions(tuple(row[0] for row in rows), attributes, values[..., 0], values[..., 1])


def _header(attributes: Sequence[str]) -> list[str]:
    return ["id", *(f"{name}_{kind}" for name in attributes for kind in ("truth", "prediction"))]


def _numbers(row: Sequence[str], columns: int, number: int) -> list[float]:
    """The cells after a row's id; NaN for an empty one."""
    if len(row) != columns:
        raise ValueError(f"row {number} has {len(row)} cells, the header {columns}")
    for cell in row[1:]:
        if cell and not abs(float(cell)) <= _LARGEST_PREDICTION:
            raise ValueError(f"row {number}: {cell} is not a number of single precision")
    return [float(cell or "nan") for cell in row[1:]]


@dataclass(frozen=True)
class RunScores:
    """A run's scores on the test split, by attribute, and the SHA-256 of the file of predictions behind them.

    The SHA-256 is None in files of earlier versions. `alone` has the scores of each input alone.
    """

    scores: Mapping[str, Scores] = field(default_factory=dict)
    predictions_sha256: str | None = None
    alone: ScoresAlone = field(default_factory=dict)


def scores_as_json(scores: Mapping[str, Scores], alone: ScoresAlone) -> dict[str, dict[str, Any]]:
    """Scores by attribute in JSON's types, `alone` among them where there are any; None for an undefined score."""

    def numbers(of: Scores) -> dict[str, float | int | None]:
        return {key: value if math.isfinite(value) else None for key, value in asdict(of).items()}

    found: dict[str, dict[str, Any]] = {name: numbers(of) for name, of in scores.items()}
    for name, by_input in alone.items():
        found[name]["alone"] = {given: numbers(of) for given, of in by_input.items()}
    return found


def write_run_scores(path: Path, run_id: str, scores: RunScores) -> None:
    """Writes a run's scores with its id and a checksum."""
    values = {"predictions_sha256": scores.predictions_sha256, "scores": scores_as_json(scores.scores, scores.alone)}
    write_sealed(path, {RUN_ENTRY: run_id, **values})


def read_run_scores(path: Path, run_id: str) -> RunScores:
    """Reads what `write_run_scores` or an earlier version wrote; no scores if there is no file.

    Raises InputError if it is damaged or of another run.
    """
    try:
        values = read_sealed(path, _REMEDY, may_lack_seal=True)
    except FileNotFoundError:
        return RunScores()
    # Earlier versions wrote only scores by attribute, which are not text as a run's id is.
    if isinstance(values.get(RUN_ENTRY), str):
        check_run(path, values[RUN_ENTRY], run_id)
        by_attribute, sha256 = values.get("scores"), values.get("predictions_sha256")
        if len(values) != 3 or not isinstance(by_attribute, dict) or not isinstance(sha256, str):
            raise InputError(f"{path}: expected scores (an object) and predictions_sha256 (text); {_REMEDY}")
    else:
        check_run(path, "", run_id)
        by_attribute, sha256 = values, None
    scores, alone = {}, {}
    for name, of in by_attribute.items():
        where = f"{path}: {name}"
        by_input = of.pop("alone", {}) if isinstance(of, dict) else {}
        if not isinstance(by_input, dict):
            raise InputError(f"{where}: alone is no object of scores; {_REMEDY}")
        scores[name] = _scores(of, where)
        if by_input:
            alone[name] = {given: _scores(of_one, f"{where}: {given}") for given, of_one in by_input.items()}
    return RunScores(scores, sha256, alone)


def _scores(values: object, where: str) -> Scores:
    if isinstance(values, dict):  # undefined scores are null
        undefined = {name: math.nan for name in ("ccc", "pearson", "rmse") if name in values and values[name] is None}
        values = {**values, **undefined}
    scores = as_record(Scores, values, where, _REMEDY)
    numbers = scores.ccc, scores.pearson, scores.rmse
    if any(abs(value) > _LARGEST_SCORE for value in numbers) or min(scores.n, scores.not_finite) < 0:
        raise InputError(f"{where} has numbers that cannot be scores; {_REMEDY}")
    return scores


@dataclass(frozen=True)
class _OfEpoch:
    """What `clusters.json` is of; `run` is "" in files of earlier versions."""

    epoch: int
    run: str = ""


@dataclass(frozen=True)
class _Known:
    """The entries of a `ClusterInformation` except the attributes and `alone`."""

    speaker: Information | None
    gender: Information | None
    bins: int
    permutations: int


def write_clusters(path: Path, run_id: str, epoch: int, found: ClusterInformation) -> None:
    """Writes the information in the clusters of one epoch of a run, with a checksum."""
    write_sealed(path, {RUN_ENTRY: run_id, "epoch": epoch, **_clusters_as_json(found)})


def _clusters_as_json(found: ClusterInformation) -> dict[str, Any]:
    """The information in JSON's types, `alone` among it where there is any."""
    values = asdict(replace(found, alone={}))
    del values["alone"]
    if found.alone:
        values["alone"] = {given: _clusters_as_json(of_one) for given, of_one in found.alone.items()}
    return values


def read_clusters(path: Path, run_id: str, epoch: int | None) -> ClusterInformation | None:
    """Reads what `write_clusters` wrote; None if there is no file, or one of another epoch than this best one.

    Files of earlier versions may lack entries.
    Raises InputError if it is damaged or of another run.
    """
    try:
        values = read_sealed(path, _REMEDY, may_lack_seal=True)
    except FileNotFoundError:
        return None
    of_epoch = {name: values.pop(name) for name in ("epoch", RUN_ENTRY) if name in values}
    saved = as_record(_OfEpoch, of_epoch, str(path), _REMEDY)
    check_run(path, saved.run, run_id)
    if saved.epoch != epoch:
        return None
    by_input = values.pop("alone", {})
    if not isinstance(by_input, dict):
        raise InputError(f"{path}: alone is no object of inputs; {_REMEDY}")
    alone = {given: _clusters(of_one, f"{path}: {given} alone") for given, of_one in by_input.items()}
    return replace(_clusters(values, str(path)), alone=alone)


def _clusters(values: object, where: str) -> ClusterInformation:
    if not isinstance(values, dict) or not isinstance(values.get("attributes"), dict):
        raise InputError(f"{shortened(where)} has no object of attributes; {_REMEDY}")
    known = as_record(_Known, {name: of for name, of in values.items() if name != "attributes"}, where, _REMEDY)
    by_name = values["attributes"].items()
    found = {name: as_record(Information, of, f"{where}: {name}", _REMEDY) for name, of in by_name}
    return ClusterInformation(found, known.speaker, known.gender, known.bins, known.permutations)
