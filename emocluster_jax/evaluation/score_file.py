"""The scores of a model as a JSON file."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from emocluster_jax.atomic_files import write_json
from emocluster_jax.errors import InputError
from emocluster_jax.evaluation.sentences import Scores

TEST_SCORES = "test.json"
"""Of the test split, in a work directory whose run has ended."""


def scores_as_json(scores: Mapping[str, Scores]) -> dict[str, dict[str, float | int | None]]:
    """Scores by attribute in JSON's types; None where a score is not defined."""
    return {
        name: {key: value if math.isfinite(value) else None for key, value in asdict(of).items()}
        for name, of in scores.items()
    }


def write_scores(path: Path, scores: Mapping[str, Scores]) -> None:
    """Writes scores by attribute."""
    write_json(path, scores_as_json(scores))


def read_scores(path: Path) -> dict[str, Scores]:
    """What `write_scores` wrote; empty where there is no file.

    Raises:
      InputError: the file is damaged.
    """
    try:
        values = json.loads(path.read_text("utf-8"))
        return {
            str(name): Scores(
                _number(of["ccc"]),
                _number(of["pearson"]),
                _number(of["rmse"]),
                int(of["n"]),
                int(of.get("not_finite", 0)),
            )
            for name, of in values.items()
        }
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{path} cannot be read ({error}); remove it and end the training again with --resume, which writes it anew"
        ) from None


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)
