"""A training run: from prepared records to a model, its test scores, and what its clusters know."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import Int

from emocluster_jax.api.evaluation import SplitEvaluation, evaluate_prepared
from emocluster_jax.api.overview import Overview, Shown
from emocluster_jax.api.requests import FitRequest, asked_by
from emocluster_jax.clustering.kmeans import assign
from emocluster_jax.config import TrainConfig, presets
from emocluster_jax.console import Console, counted
from emocluster_jax.corpora.inputs import FurtherInputs
from emocluster_jax.corpora.speaker_split import shared_speakers_warning
from emocluster_jax.errors import InputError, one_line
from emocluster_jax.evaluation import run_results
from emocluster_jax.evaluation.by_input import ClustersAlone, clusters_alone
from emocluster_jax.evaluation.cluster_information import ClusterInformation, cluster_information
from emocluster_jax.evaluation.metrics import SELECTIONS
from emocluster_jax.evaluation.run_results import RunScores, SentencePredictions
from emocluster_jax.feed.from_records import load_split, pool_prefix, resolve_feed
from emocluster_jax.feed.split import Feed, Split
from emocluster_jax.inference.model_directory import MODEL, SavedModel, read_model, weights_sha256
from emocluster_jax.models.registry import further_inputs
from emocluster_jax.objectives.stage import stages_of
from emocluster_jax.records.folds import describe_fold
from emocluster_jax.records.preparation import Preparation
from emocluster_jax.records.reader import Descriptions, PreparedData, open_data
from emocluster_jax.reporting.plot_data import rated_and_predicted
from emocluster_jax.reporting.plots import prediction_scatter, training_curves
from emocluster_jax.reporting.projector import write_projector
from emocluster_jax.runtime import parallel
from emocluster_jax.runtime.programs import freed_programs, keep_programs
from emocluster_jax.storage.checksums import file_sha256
from emocluster_jax.storage.disk import check_output_folder
from emocluster_jax.training.checkpoints import Progress
from emocluster_jax.training.data import TrainingData, check_recordings
from emocluster_jax.training.fine_tuning import read_initial_model
from emocluster_jax.training.loop import fit as fit_network
from emocluster_jax.training.metrics_log import METRICS_FILE, TENSORBOARD_DIR, read_metrics
from emocluster_jax.training.workdir import (
    SavedRun,
    check_joined,
    claim,
    has_checkpoint,
    has_run,
    locked,
    read_assignments,
    read_run,
    read_training_clusters,
)

PLOTS = "plots"
_REDRAW_AFTER_S = 30
_PROJECTED = 100
"""About so many test sentences' chunks go to TensorBoard's projector: 2 MB."""


@dataclass(frozen=True, eq=False, repr=False)
class TrainingRun(Shown):
    """A run that has ended.

    Attributes:
      config: its settings.
      progress: how many epochs it had, which was the best, and its value of `config.select_by`.
      test: the best epoch's model on the test split; None without one, or without labels for training.
      clusters: what the best epoch's clusters of the training split (else of the pool) know of emotion, speaker and
        gender, and for models with further inputs also those that each input alone tells; None for systems without
        clusters, and on processes other than 0.
    """

    workdir: Path
    config: TrainConfig
    preparation: Preparation
    progress: Progress
    test: SplitEvaluation | None
    clusters: ClusterInformation | None

    @property
    def model(self) -> Path:
        """The model directory of the best epoch."""
        return self.workdir / MODEL

    @property
    def plots(self) -> Path:
        """The folder of the curves, and of test predictions against truth."""
        return self.workdir / PLOTS

    def metrics(self) -> list[dict[str, Any]]:
        """A dictionary per epoch, as in `metrics.jsonl`: losses, validation CCC, cluster sizes, seconds."""
        return read_metrics(self.workdir / METRICS_FILE)

    def _overview(self) -> Overview:
        epochs, best, value = self.progress
        kept = "the last one's model is kept"
        if math.isfinite(value):
            kept = f"the best is epoch {best} (validation {SELECTIONS[self.config.select_by].title} {value:z.3f})"
        run = Overview(
            [f"Run in {self.workdir}, {counted(epochs, 'epoch')}: {kept}", f"Model: {self.model}   plots: {self.plots}"]
        )
        if self.test is None:
            return run
        test = self.test._overview()
        return test._replace(lines=[*run.lines, *test.lines])


@asked_by(FitRequest)
@freed_programs()
def fit(request: FitRequest) -> TrainingRun:
    """Trains on prepared records, on all devices, and evaluates the best epoch on the test split.

    The arguments are the fields of `FitRequest`. An interrupt (Ctrl-C, a notebook's stop button) leaves the last whole
    epoch, from which `resume` goes on; on a CPU the numbers are bit-equal to those of a run that was never interrupted.

    Raises:
      InputError: what is wrong with the data, the settings or the work directory.
      DivergedError: the loss is not finite.
      StoppedError: `stopping` asked for it.
    """
    keep_programs()
    console, data_dir, workdir = request.console or Console(), Path(request.data_dir), Path(request.workdir)
    config = _settings(request)
    if workdir.resolve() == data_dir.resolve():
        raise InputError(f"`workdir={workdir}` is the data directory; give the run a folder of its own")
    with parallel.all_or_none():
        if parallel.is_primary():
            check_output_folder("`workdir`", workdir)
        prepared = open_data(data_dir, config.fold)
        prepared.check_fold()
        preparation = prepared.preparation
        has_labels, pool = bool(preparation.counts.get("train")), _pool(preparation, config, console)
        check_recordings(config, preparation.labels, labeled=has_labels, unlabeled=len(pool) > 0)
        inputs = further_inputs(config.model, preparation.inputs, str(data_dir))
        # A run that goes on no longer needs the weights that it began with.
        initial = None if has_checkpoint(workdir) else read_initial_model(config, preparation.features, inputs)
    initial_sha256 = initial and weights_sha256(initial)
    if not parallel.same_everywhere(str(initial_sha256)):
        raise InputError(f"not all processes find the same model in {config.init_from}; give equal copies")
    if jax.process_count() > 1:
        console.line(f"{jax.process_count()} processes with {jax.device_count()} devices")
    with contextlib.ExitStack() as held:
        run = workdir, config, preparation.fingerprint
        with parallel.all_or_none():
            if parallel.is_primary():
                held.enter_context(locked(workdir))
                claim(*run, resume=request.resume, initial_sha256=initial_sha256)
                (workdir / PLOTS).mkdir(exist_ok=True)
        with parallel.all_or_none():
            check_joined(*run)
            saved = read_run(workdir)
        if config.fold is not None:
            console.line(one_line(describe_fold(preparation, config.fold)))
        if preparation.shared_speakers and parallel.is_primary():
            console.warn(shared_speakers_warning(preparation.shared_speakers))
        counts = {**prepared.counts, "unlabeled": len(pool)}
        chosen = resolve_feed(request.feed, list(counts.values()), preparation.features, console, inputs)
        data = _load(prepared, inputs, pool, chosen, console)
        with request.stopping or contextlib.nullcontext(lambda: False) as stop:
            drawer = _curves_drawer(workdir)
            progress = fit_network(config, data, workdir, console, stop, initial, drawer, saved.id)
        parallel.wait_for_all("the best model is written")
        with parallel.all_or_none():
            model = read_model(workdir / MODEL)
        test = _test(prepared, workdir, model, chosen, console) if has_labels else None
        clusters, clustered_split = None, data.train if has_labels else data.unlabeled
        assert clustered_split is not None
        alone = clusters_alone(model, clustered_split, console)
        if parallel.is_primary():
            _draw_curves(workdir)
            clustered_pool = None if has_labels else pool
            clusters = _examine_clusters(prepared, workdir, saved, progress, clustered_pool, alone, console)
            if test is not None:
                # Last, and with the checksum of the predictions that were scored.
                sha256 = file_sha256(workdir / run_results.TEST_PREDICTIONS)
                scores = RunScores(test.scores, sha256, test.alone)
                run_results.write_run_scores(workdir / run_results.TEST_SCORES, saved.id, scores)
    return TrainingRun(workdir, config, preparation, progress, test, clusters)


def _settings(request: FitRequest) -> TrainConfig:
    if isinstance(request.config, TrainConfig):
        return request.config
    if request.config is None and request.resume and has_run(Path(request.workdir)):
        return read_run(Path(request.workdir)).config
    if request.config == "fine-tune":
        raise InputError(
            "`config=fine-tune` starts from a model; give presets['fine-tune'].replace(init_from=...), with the "
            "`width_multiplier` of the model if it is not 1"
        )
    return presets[request.config or "paper"]


def _pool(preparation: Preparation, config: TrainConfig, console: Console) -> Int[np.ndarray, " n"]:
    """The unlabelled recordings that training uses: none for a system that learns from labels alone."""
    if stages_of(config).unlabeled is None:
        return pool_prefix(0, None)
    pool = pool_prefix(preparation.counts.get("unlabeled", 0), config.unlabeled_size)
    if config.unlabeled_size is not None and len(pool) < config.unlabeled_size and parallel.is_primary():
        console.warn(
            f"the unlabelled pool holds {len(pool)} recordings, fewer than {config.unlabeled_size}: all are used"
        )
    return pool


def _load(
    data: PreparedData, inputs: FurtherInputs, pool: Int[np.ndarray, " n"], feed: Feed, console: Console
) -> TrainingData:
    preparation = data.preparation

    def labeled(split: str) -> Split | None:
        return load_split(data, split, console, feed=feed, inputs=inputs) if data.counts.get(split) else None

    return TrainingData(
        train=labeled("train"),
        validation=labeled("validation"),
        unlabeled=load_split(data, "unlabeled", console, pool, feed, inputs) if len(pool) else None,
        features=preparation.features,
        feature_mean=preparation.feature_statistics.mean,
        feature_std=preparation.feature_statistics.std,
        audio=preparation.audio,
        inputs=inputs,
        speakers=lambda: data.describe("train").speakers,
        recording_ids=lambda split, rows: data.describe(split, pool[rows] if split == "unlabeled" else rows).ids,
    )


def _curves_drawer(workdir: Path) -> Callable[[], None]:
    """Draws the curves when an epoch ends; not after each of many short ones, which would take most of their time."""
    drawn = time.monotonic()

    def draw() -> None:
        nonlocal drawn
        if time.monotonic() - drawn >= _REDRAW_AFTER_S:
            _draw_curves(workdir)
            drawn = time.monotonic()

    return draw


def _draw_curves(workdir: Path) -> None:
    training_curves(read_metrics(workdir / METRICS_FILE), workdir / PLOTS / "training.png")


def _test(data: PreparedData, workdir: Path, model: SavedModel, feed: Feed, console: Console) -> SplitEvaluation | None:
    """Tests the best epoch, if there is a test split, and writes its predictions as CSV, plots and for TensorBoard."""
    if not data.counts.get("test"):
        return None
    # A run's scores do not depend on what else is installed.
    test = evaluate_prepared(model, data, "test", feed, console, sample=_PROJECTED, engine="jax")
    if parallel.is_primary():
        with console.task("writing test predictions"):
            sentences = test.describe()
            kept = SentencePredictions(tuple(sentences.ids), test.attributes, test.truth, test.predictions)
            run_results.write_test_predictions(workdir / run_results.TEST_PREDICTIONS, kept)
            for name, truth, predictions in zip(test.attributes, test.truth.T, test.predictions.T, strict=True):
                scatter = rated_and_predicted(name, truth, predictions, test.scores[name].ccc)
                prediction_scatter(scatter, workdir / PLOTS / f"test_{name}.png")
            _project(workdir, model, test, sentences)
    return test


def _project(workdir: Path, model: SavedModel, test: SplitEvaluation, sentences: Descriptions) -> None:
    """Writes the sample's chunks, as they are clustered, for TensorBoard's projector."""
    assert test.sample is not None
    rows, (_, chunks, width) = test.sample.sentences, test.sample.embeddings.shape
    embeddings = test.sample.embeddings.reshape(-1, width)
    clustered = model.clustered(embeddings)

    def of_chunks(values: Sequence[object]) -> list[object]:
        return [values[row] for row in rows for _ in range(chunks)]

    columns = {"id": of_chunks(sentences.ids), "chunk": list(range(chunks)) * len(rows)}
    if model.centroids is not None:
        columns["cluster"] = np.asarray(assign(clustered, model.centroids)[0]).tolist()
    columns |= {name: of_chunks(values.tolist()) for name, values in test.columns().items()}
    columns |= {"speaker": of_chunks(sentences.speakers), "gender": of_chunks(sentences.genders)}
    write_projector(workdir / TENSORBOARD_DIR, "chunks_of_test_sentences", clustered, columns)


def _examine_clusters(
    data: PreparedData,
    workdir: Path,
    run: SavedRun,
    progress: Progress,
    pool: Int[np.ndarray, " n"] | None,
    alone: Mapping[str, ClustersAlone],
    console: Console,
) -> ClusterInformation | None:
    """What the best epoch's clusters of the training split, or of these recordings of the pool, know; also as JSON.

    `alone` has the clusters of the same recordings by each input alone.
    """
    epoch = progress.best_epoch
    if pool is None:
        chunks = data.counts["train"] * data.preparation.features.chunks_per_utterance
        assignments = read_training_clusters(workdir, epoch, run, chunks)
    else:
        assignments = read_assignments(workdir, epoch, run.id, run.config.model.clusters).get("stage1")
    if assignments is None:
        return None
    clustered = data.describe("train" if pool is None else "unlabeled")
    rows = np.arange(len(clustered)) if pool is None else pool

    def known(clusters: Int[np.ndarray, " chunks"], rows: Int[np.ndarray, " n"]) -> ClusterInformation:
        speakers, genders = ([values[row] for row in rows] for values in (clustered.speakers, clustered.genders))
        return cluster_information(clusters, clustered.labels.rows(rows), speakers, genders, console=console)

    by_input = {given: known(of_one.clusters, rows[of_one.recordings]) for given, of_one in alone.items()}
    found = dataclasses.replace(known(assignments, rows), alone=by_input)
    run_results.write_clusters(workdir / run_results.CLUSTERS_FILE, run.id, epoch, found)
    return found
