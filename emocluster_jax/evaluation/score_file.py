"""The scores of a model as JSON, and the file of a run's scores."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from emocluster_jax.errors import InputError
from emocluster_jax.evaluation.sentences import Scores
from emocluster_jax.storage.atomic_files import write_json
from emocluster_jax.storage.json_files import as_record, read_json
from emocluster_jax.storage.run_identity import RUN_ENTRY, check_run

TEST_SCORES = "test.json"
"""Of the test split, in a work directory whose run has ended."""
_REMEDY = "remove it and end the training again with `resume`, which writes it anew"
_LARGEST = 1e100
"""Far beyond any error of single-precision numbers, and with a square that double precision holds."""


@dataclass(frozen=True)
class RunScores:
    """What a run scored on the test split.

    Attributes:
      scores: by attribute; empty where there are none.
      predictions_sha256: of the file of the predictions behind them; None if it was not written down, by earlier
        versions.
    """

    scores: Mapping[str, Scores] = field(default_factory=dict)
    predictions_sha256: str | None = None


def scores_as_json(scores: Mapping[str, Scores]) -> dict[str, dict[str, float | int | None]]:
    """Scores by attribute in JSON's types; None where a score is not defined."""
    return {
        name: {key: value if math.isfinite(value) else None for key, value in asdict(of).items()}
        for name, of in scores.items()
    }


def write_run_scores(path: Path, run_id: str, scores: RunScores) -> None:
    """Writes a run's scores with its id."""
    write_json(
        path,
        {
            RUN_ENTRY: run_id,
            "predictions_sha256": scores.predictions_sha256,
            "scores": scores_as_json(scores.scores),
        },
    )


def read_run_scores(path: Path, run_id: str) -> RunScores:
    """What `write_run_scores` wrote, or an earlier version, whose files are the scores by attribute and no more.

    Args:
      path: the file; where there is none, there are no scores.
      run_id: of the run that it has to be of.

    Raises:
      InputError: the file is damaged, or of another run.
    """
    try:
        values = read_json(path, _REMEDY)
    except FileNotFoundError:
        return RunScores()
    if not isinstance(values, dict):
        raise InputError(f"{path} is not a JSON object; {_REMEDY}")
    # A run's id is text, which no attribute's scores are.
    if isinstance(values.get(RUN_ENTRY), str):
        check_run(path, values[RUN_ENTRY], run_id)
        by_attribute, sha256 = values.get("scores"), values.get("predictions_sha256")
        if not isinstance(by_attribute, dict) or not isinstance(sha256, str):
            raise InputError(f"{path}: scores is not an object, or predictions_sha256 not text; {_REMEDY}")
    else:
        check_run(path, "", run_id)
        by_attribute, sha256 = values, None
    return RunScores({name: _scores(of, f"{path}: {name}") for name, of in by_attribute.items()}, sha256)


@dataclass(frozen=True)
class _SavedScore:
    """`Scores` as they are written: None where one is not defined."""

    ccc: float | None
    pearson: float | None
    rmse: float | None
    n: int
    not_finite: int = 0


def _scores(values: object, where: str) -> Scores:
    saved = as_record(_SavedScore, values, where, _REMEDY)
    ccc, pearson, rmse = (math.nan if value is None else value for value in (saved.ccc, saved.pearson, saved.rmse))
    if any(abs(value) > _LARGEST for value in (ccc, pearson, rmse)) or min(saved.n, saved.not_finite) < 0:
        raise InputError(f"{where} has numbers that no scores have; {_REMEDY}")
    return Scores(ccc, pearson, rmse, saved.n, saved.not_finite)
