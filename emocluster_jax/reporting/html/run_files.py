"""What a work directory says of its run, as far as the run has come."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from emocluster_jax.errors import InputError
from emocluster_jax.evaluation.cluster_information import ClusterInformation, Information
from emocluster_jax.evaluation.prediction_file import TEST_PREDICTIONS, SentencePredictions, read_predictions
from emocluster_jax.evaluation.score_file import TEST_SCORES, read_scores
from emocluster_jax.evaluation.sentences import Scores
from emocluster_jax.reporting.metrics_log import METRICS_FILE, read_metrics
from emocluster_jax.training.workdir import CLUSTERS_FILE, SavedRun, read_run


@dataclass(frozen=True)
class RunFiles:
    """A run; what it has not written, or not yet, is None or empty.

    Attributes:
      workdir: where it lies.
      saved: its settings, and what it was trained on.
      metrics: one dictionary an epoch.
      best_epoch: the epoch that was kept; None before the first.
      scores: on the test split, by attribute.
      predictions: behind the scores.
      information: what the clusters of that epoch know.
    """

    workdir: Path
    saved: SavedRun
    metrics: tuple[dict[str, Any], ...]
    best_epoch: int | None
    scores: dict[str, Scores]
    predictions: SentencePredictions | None
    information: ClusterInformation | None


def read_run_files(workdir: Path) -> RunFiles:
    """Reads a work directory of `launch.train`.

    Raises:
      InputError: it holds no run, or a file in it is damaged.
    """
    saved = read_run(workdir)
    metrics = tuple(read_metrics(workdir / METRICS_FILE)) if (workdir / METRICS_FILE).exists() else ()
    best_epoch = metrics[-1].get("best_epoch") if metrics else None
    scores = read_scores(workdir / TEST_SCORES)
    return RunFiles(
        workdir=workdir,
        saved=saved,
        metrics=metrics,
        best_epoch=best_epoch,
        scores=scores,
        # Without scores a run goes on, and predictions that are there were an earlier end's.
        predictions=read_predictions(path) if scores and (path := workdir / TEST_PREDICTIONS).exists() else None,
        information=_information(workdir / CLUSTERS_FILE, best_epoch),
    )


def _information(path: Path, epoch: int | None) -> ClusterInformation | None:
    """None also if the file is about another epoch, of an earlier end of the training."""
    values = _json(path)
    if values is None:
        return None
    try:
        if values["epoch"] != epoch:
            return None
        return ClusterInformation(
            attributes={str(name): Information(**known) for name, known in values["attributes"].items()},
            speaker=None if values["speaker"] is None else Information(**values["speaker"]),
            gender=None if values["gender"] is None else Information(**values["gender"]),
            bins=values["bins"],
            permutations=values["permutations"],
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise _damaged(path, error) from None


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise _damaged(path, error) from None


def _damaged(path: Path, error: Exception) -> InputError:
    return InputError(f"{path} cannot be read ({error}); end the training again with --resume, which writes it anew")
