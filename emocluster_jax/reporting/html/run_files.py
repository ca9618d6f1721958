"""Reads the work directory of a run, finished or not."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from emocluster_jax.errors import InputError
from emocluster_jax.evaluation import run_results
from emocluster_jax.evaluation.cluster_information import ClusterInformation
from emocluster_jax.evaluation.metrics import Scores, ScoresAlone
from emocluster_jax.evaluation.run_results import RunScores, SentencePredictions
from emocluster_jax.inference.model_directory import MODEL, model_epoch
from emocluster_jax.training.metrics_log import METRICS_FILE, read_metrics
from emocluster_jax.training.workdir import SavedRun, read_run

Content = TypeVar("Content")
Otherwise = TypeVar("Otherwise")


@dataclass(frozen=True)
class RunFiles:
    """A run; anything that it has not written, or that cannot be shown, is None or empty.

    Attributes:
      metrics: one dictionary per epoch.
      best_epoch: the epoch that was kept; None before the first.
      scores: on the test split, by attribute.
      alone: the same of each input alone, for a model with several.
      information: in the clusters of the best epoch.
      problems: files that are damaged or belong to another run, one line each.
    """

    workdir: Path
    saved: SavedRun
    metrics: list[dict[str, Any]]
    best_epoch: int | None
    scores: dict[str, Scores]
    predictions: SentencePredictions | None
    information: ClusterInformation | None
    problems: tuple[str, ...] = ()
    alone: ScoresAlone = field(default_factory=dict)

    def has_data_of(self, other: RunFiles) -> bool:
        """Whether it was trained on the same records, and the same fold of them, as another run."""
        return (self.saved.data, self.saved.config.fold) == (other.saved.data, other.saved.config.fold)


def read_run_files(workdir: Path) -> RunFiles:
    """Reads a work directory of `launch.train`; InputError if it has no run, or the run's own file is damaged."""
    saved = read_run(workdir)
    problems: list[str] = []
    path = workdir / METRICS_FILE
    metrics = unless_wrong(lambda: read_metrics(path, saved.id), [], problems) if os.path.lexists(path) else []
    best_epoch = _best_epoch(workdir, saved, metrics)
    kept = unless_wrong(lambda: _scores(workdir, saved), RunScores(), problems)
    # Without scores the run has been resumed, and the predictions are old.
    predictions = unless_wrong(lambda: _predictions(workdir, saved, kept), None, problems) if kept.scores else None
    information = unless_wrong(
        lambda: run_results.read_clusters(workdir / run_results.CLUSTERS_FILE, saved.id, best_epoch), None, problems
    )
    scores = dict(kept.scores)
    return RunFiles(workdir, saved, metrics, best_epoch, scores, predictions, information, tuple(problems), kept.alone)


def unless_wrong(read: Callable[[], Content], otherwise: Otherwise, problems: list[str]) -> Content | Otherwise:
    """What `read` returns; if it raises InputError, `otherwise`, with the message added to `problems`."""
    try:
        return read()
    except InputError as error:
        problems.append(str(error))
        return otherwise


def _best_epoch(workdir: Path, saved: SavedRun, metrics: list[dict[str, Any]]) -> int | None:
    """The epoch that was kept, from the metrics or else from the model."""
    if metrics and metrics[-1].get("best_epoch"):
        return metrics[-1]["best_epoch"]
    # A damaged model is reported where it is needed.
    epoch = unless_wrong(lambda: model_epoch(workdir / MODEL, saved.id), None, [])
    return epoch if type(epoch) is int and epoch > 0 else None


def _scores(workdir: Path, saved: SavedRun) -> RunScores:
    path = workdir / run_results.TEST_SCORES
    kept = run_results.read_run_scores(path, saved.id)
    if kept.scores:
        _check_attributes(path, kept.scores, saved)
    return kept


def _predictions(workdir: Path, saved: SavedRun, kept: RunScores) -> SentencePredictions | None:
    path = workdir / run_results.TEST_PREDICTIONS
    if not os.path.lexists(path):
        return None
    found = run_results.read_test_predictions(path, kept.predictions_sha256)
    _check_attributes(path, found.attributes, saved)
    return found


def _check_attributes(path: Path, names: Collection[str], saved: SavedRun) -> None:
    trained = saved.config.model.attributes
    if sorted(names) != sorted(trained):
        raise InputError(
            f"{path} is of {', '.join(names) or 'nothing'}, but the run predicts {', '.join(trained)}; finish the "
            "training again with `resume`, which rewrites it"
        )
