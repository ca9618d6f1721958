"""Training from start to end: the epochs, their checkpoints, and the choice of the best one (paper, section 2.2)."""

from __future__ import annotations

import dataclasses
import datetime
import math
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import Float32

from emocluster_jax.config import TrainConfig
from emocluster_jax.console import Console, counted, duration
from emocluster_jax.corpora.inputs import names_of
from emocluster_jax.errors import InputError
from emocluster_jax.evaluation.metrics import (
    SELECTIONS,
    Scores,
    Selection,
    score_sentences,
    selection_values,
    sentence_attributes,
)
from emocluster_jax.feed.split import Split
from emocluster_jax.inference.forward import chunk_attributes, make_forward
from emocluster_jax.inference.model_directory import (
    MODEL,
    SavedModel,
    adopt_pending,
    model_epoch,
    settle,
    write_pending,
)
from emocluster_jax.models.fusion import FUSION, with_statistics
from emocluster_jax.models.registry import NETWORKS, network_of
from emocluster_jax.objectives.stage import Stage, stages_of
from emocluster_jax.runtime import parallel
from emocluster_jax.runtime.loops import StoppedError
from emocluster_jax.training.augmentation import draw_windows
from emocluster_jax.training.checkpoints import Checkpoint, Progress, SaveClock, restore_checkpoint, save_checkpoint
from emocluster_jax.training.data import (
    TrainingData,
    check_settings,
    data_warnings,
    label_classes,
    label_statistics,
    selecting_attributes,
)
from emocluster_jax.training.epoch import (
    TRAINING_COST,
    ClusteringPrograms,
    StagePrograms,
    StageProgress,
    StageView,
    Stopwatch,
    progress_shape,
    run_stage,
)
from emocluster_jax.training.fine_tuning import announce, in_label_units, start_from
from emocluster_jax.training.input_statistics import input_statistics
from emocluster_jax.training.metrics_log import STEP_METRICS, MetricsLog, cluster_metrics, loss_name
from emocluster_jax.training.not_finite import NOT_FINITE, DivergedError, NotFinite, save_not_finite
from emocluster_jax.training.steps import (
    TrainState,
    clustering_program,
    create_train_state,
    predicted_clusters_program,
    redraw_head_program,
    step_log,
    training_program,
)
from emocluster_jax.training.workdir import CHECKPOINTS, read_assignments, write_assignments

_Validation = tuple[dict[str, Scores], dict[str, float]]
"""Scores by attribute and `selection_values`; both empty without a validation split."""


def fit(
    config: TrainConfig,
    data: TrainingData,
    workdir: Path,
    console: Console,
    stop: Callable[[], bool] = lambda: False,
    initial: SavedModel | None = None,
    after_epoch: Callable[[], None] = lambda: None,
    run_id: str = "",
) -> Progress:
    """Trains a network, or continues where an earlier call on the same work directory stopped.

    Args:
      config: all settings of the run.
      data: the splits.
      workdir: for checkpoints, the best model so far (`model`), metrics and cluster assignments.
      console: shows progress.
      stop: asked every second or two; the run stops if it returns true on any process.
      initial: the model that `config.init_from` names, for a run without a checkpoint; None for a random draw.
      after_epoch: called on process 0 when an epoch's metrics and checkpoint are written.
      run_id: `SavedRun.id`.

    Raises:
      InputError: the settings do not fit the data or the devices, or the work directory holds another run's files.
      DivergedError: embeddings, predictions or all losses of a stage are infinite or NaN, or with `on_nan` "stop" a
        single loss or gradient. The work directory lists the chunks.
      StoppedError: `stop` asked for it; a later call continues after the last step that was taken.
    """
    if parallel.is_primary():
        workdir.mkdir(parents=True, exist_ok=True)
    run = _Run(config, data, workdir, run_id, console, lambda: parallel.anywhere(stop()))
    if parallel.is_primary():
        for warning in data_warnings(config, run.data, run.selecting):
            console.warn(warning)
    with console.task("starting"):
        at = _start(run, initial)
    log = _open_log(run, at.progress)
    for line in _introduction(run, at):
        console.line(line)
    run.clock.restart()
    last, first_epoch = math.nan, at.progress.epoch + 1
    with nullcontext() if log is None else log:
        while at.progress.epoch < config.epochs and not _out_of_patience(config, at.progress):
            watch, begun = Stopwatch(), at.stages
            at, validation = _train_epoch(run, at, watch, _note(run.selection, at.progress, last))
            if validation is None:
                if sum(stage.steps for stage in at.stages) > sum(stage.steps for stage in begun):
                    _save_checkpoint(run, at)
                raise StoppedError
            at, metrics = _complete_epoch(run, at, validation, watch)
            last = metrics.get(run.selection.entry, math.nan)
            if log is not None:
                log.write(metrics)
            _save_checkpoint(run, at)
            if log is not None:
                # Only after the checkpoint: a resumed run settles what a kill between the two left behind.
                adopt_pending(workdir / MODEL)
                console.line(_epoch_line(metrics, config))
                if at.progress.epoch == first_epoch < config.epochs:
                    console.line(_outlook(metrics, config))
                after_epoch()
    if log is not None and at.progress.epoch < config.epochs:
        vain = counted(at.progress.epoch - at.progress.best_epoch, "epoch")
        console.line(f"Stopped: {vain} brought no better one than epoch {at.progress.best_epoch}")
    with parallel.all_or_none():
        if parallel.is_primary():
            _check_model(run, at.progress)
    return at.progress


class _Run:
    """The constants of a run: its settings, checked against data and devices, and its programs.

    Attributes:
      selecting: the attributes by which the best epoch is chosen; without any, the last epoch is kept.
      stop: whether to stop; the same on all processes.
    """

    def __init__(
        self,
        config: TrainConfig,
        data: TrainingData,
        workdir: Path,
        run_id: str,
        console: Console,
        stop: Callable[[], bool],
    ) -> None:
        if config.stages == "unsupervised":
            data = dataclasses.replace(data, validation=None)  # no regressor to choose an epoch by
        self.config, self.data, self.workdir, self.id = config, data, workdir, run_id
        self.console, self.stop, self.clock = console, stop, SaveClock(config.checkpoint_minutes)
        self.selection = SELECTIONS[config.select_by]
        self.selecting = selecting_attributes(config, data)
        check_settings(config, data, self.selecting)
        if data.train is None:
            self.label_mean = self.label_std = np.full(len(config.model.attributes), np.nan, np.float32)
        else:
            labels = data.train.labels.of(config.model.attributes)
            self.label_mean, self.label_std = label_statistics(labels, config.model.attributes)
        self.forward = make_forward(config.model)
        self._embed, self._redraw_head = make_forward(config.model, fast=True), redraw_head_program()
        self._classes = label_classes(config, data)
        self.stages: list[StagePrograms] = []
        stages = stages_of(config, parallel.AXIS)
        if stages.unlabeled is not None and data.unlabeled is not None:
            self.stages.append(self._programs(stages.unlabeled, "stage I", "unlabeled", data.unlabeled))
        if data.train is not None:
            self.stages.append(self._programs(stages.labeled, "stage II", "train", data.train))

    def targets(self, split: Split) -> Float32[np.ndarray, "utterances A"]:
        """z-normalised labels, NaN where missing."""
        return (split.labels.of(self.config.model.attributes) - self.label_mean) / self.label_std

    def _programs(self, stage: Stage, title: str, source: str, split: Split) -> StagePrograms:
        config, features, clustering = self.config, self.data.features, None
        if NETWORKS[config.model.system].clusters:
            cluster = clustering_program(config.clustering, config.model.clusters, split.chunk_count)
            predict = predicted_clusters_program() if config.clustering.head == "matched" else None
            balanced = config.clustering.balanced_batches
            clustering = ClusteringPrograms(self._embed, cluster, self._redraw_head, predict, balanced)
        whole_recordings = NETWORKS[config.model.system].whole_recordings
        each, augmentation, draw = split.chunks_per_utterance, config.augmentation, None
        if augmentation.chunk_offset > 0:
            assert split.chunk_steps is not None  # `check_settings` has seen to it
            draw = partial(draw_windows, split.chunk_steps, each, features.chunk_frames, augmentation.chunk_offset)
        return StagePrograms(
            stage=stage,
            title=title,
            source=source,
            split=split,
            targets=self.targets(split),
            batch_chunks=config.batch_size * features.chunks_per_utterance,
            whole_recordings=whole_recordings,
            log=step_log(config, features, stage.name, self.data.inputs),
            train=training_program(stage, augmentation),
            clustering=clustering,
            draw_windows=draw,
            classes=self._classes if stage.name == "stage2" else None,
        )


def _start(run: _Run, initial: SavedModel | None) -> Checkpoint:
    """The latest checkpoint, or that of a new run, with its state on every device."""
    # RBG because XLA takes many seconds to compile Threefry for so many arrays.
    key = jax.random.key(run.config.seed, impl="rbg")
    optimizers = {programs.stage.name: programs.stage.optimizer for programs in run.stages}
    state = create_train_state(network_of(run.config.model), run.data.features, optimizers, key, run.data.inputs)

    if run.config.average_decay:
        state = state.averaging()

    def stages() -> list[StageProgress]:
        return [progress_shape(programs, run.config) for programs in run.stages]

    found = restore_checkpoint(run.workdir / CHECKPOINTS, state, stages, run.id)
    # Fine-tuning goes on with the statistics that the model's layers expect.
    if found is None and initial is None and FUSION in state.batch_stats:
        state = _with_input_statistics(state, run.data)
    if found is None and initial is not None:
        initial = in_label_units(initial, run.label_mean, run.label_std)
        state, drawn = start_from(state, initial, run.config.model)
        if parallel.is_primary():
            announce(initial, run.config, drawn, run.data, run.console)
    found = found or Checkpoint(state, Progress())
    position = found.progress, [stage.steps for stage in found.stages]
    if not parallel.same_everywhere(str(position)):
        raise InputError(
            f"not all processes find the same checkpoint in {run.workdir}; choose a `workdir` on a file system that "
            "all processes share"
        )
    return found._replace(state=parallel.replicate(found.state), progress=_agree_with_model(run, found.progress))


def _with_input_statistics(state: TrainState, data: TrainingData) -> TrainState:
    """A fresh state that normalises further inputs by the split that is trained on."""
    title, split = ("unlabeled", data.unlabeled) if data.train is None else ("train", data.train)
    assert split is not None  # `check_settings` has seen to it
    statistics = input_statistics(split, names_of(data.inputs), title)
    state = dataclasses.replace(state, batch_stats=with_statistics(state.batch_stats, statistics))
    return state if state.average is None else state.averaging()


def _introduction(run: _Run, at: Checkpoint) -> Iterator[str]:
    """What is trained, and for how long, in lines for people."""
    config, model = run.config, run.config.model
    network = NETWORKS[model.system]
    clusters = f", {model.clusters} clusters" if network.clusters else ""
    parameters = sum(leaf.size // leaf.shape[0] for leaf in jax.tree.leaves(at.state.variables["params"]))
    heard = f", reads {', '.join(model.inputs)} beside the audio" if model.inputs else ""
    yield f"Network: {network.title}, {model.width}{clusters}{heard}, {parameters:,} parameters"
    done = f", {at.progress.epoch} of them done" if at.progress.epoch else ""
    steps = " and ".join(f"{counted(stage.steps, 'step')} of {stage.title}" for stage in run.stages)
    may_end = config.patience is not None and config.patience < config.epochs
    patience = f", fewer after {config.patience} without a better one" if may_end else ""
    batch = config.batch_size * run.data.features.chunks_per_utterance
    epochs = counted(config.epochs, "epoch")
    yield f"Training: {epochs}{done}{patience}; each has {steps}, on {batch} chunks per step"


def _outlook(metrics: dict[str, Any], config: TrainConfig) -> str:
    """How long the epochs after the first one take, by the parts of it that take as long each time."""
    left = config.epochs - metrics["epoch"]
    rest = left * sum(metrics["seconds"].get(part, 0.0) for part in ("embed", "batches", "steps", "validate"))
    end = datetime.datetime.now() + datetime.timedelta(seconds=rest)
    day = "" if end.date() == datetime.date.today() else f"{end:%A} "
    at_most = "at most " if config.patience is not None and config.patience < left else ""
    others = f"{left} epochs take" if left > 1 else "epoch takes"
    return f"The other {others} {at_most}about {duration(rest)}, until {day}{end:%H:%M}"


def _agree_with_model(run: _Run, progress: Progress) -> Progress:
    """The checkpoint's progress, once the model directory agrees with it.

    If the best epoch's model is missing, as after a user has removed a damaged checkpoint, the next epoch counts as
    better.
    """
    model, is_lost = run.workdir / MODEL, False
    with parallel.all_or_none():
        if parallel.is_primary():
            settle(model, progress.best_epoch, run.id)
            is_lost = progress.best_epoch > 0 and model_epoch(model, run.id) != progress.best_epoch
            if is_lost:
                run.console.warn(
                    f"{model} is not of this run's epoch {progress.best_epoch}, the best so far; the next epoch "
                    "replaces it"
                )
    return progress._replace(best_value=-math.inf) if parallel.anywhere(is_lost) else progress


def _open_log(run: _Run, progress: Progress) -> MetricsLog | None:
    """The metrics' log, on process 0, after checking that the files of earlier epochs are this run's."""
    with parallel.all_or_none():
        if not parallel.is_primary():
            return None
        # Read here, so that damage does not cost the next epoch.
        read_assignments(run.workdir, progress.epoch, run.id, run.config.model.clusters)
        return MetricsLog(run.workdir, progress.epoch, run.id)


def _check_model(run: _Run, progress: Progress) -> None:
    """Raises InputError if the model directory does not hold the best epoch's model."""
    model = run.workdir / MODEL
    if progress.best_epoch > 0 and model_epoch(model, run.id) != progress.best_epoch:
        patience = "" if run.config.patience is None else " and `patience=none`"
        raise InputError(
            f"{model} is not of this run's epoch {progress.best_epoch}, the best of {progress.epoch}; go on with "
            f"`epochs={progress.epoch + 1}` or more{patience}, so that the next epoch replaces it"
        )


def _save_checkpoint(run: _Run, at: Checkpoint) -> None:
    if parallel.is_primary():
        on_host = at._replace(state=parallel.first_replica(at.state))
        save_checkpoint(run.workdir / CHECKPOINTS, on_host, run.id)
    run.clock.restart()


def _out_of_patience(config: TrainConfig, progress: Progress) -> bool:
    return config.patience is not None and progress.epoch - progress.best_epoch >= config.patience


def _train_epoch(run: _Run, at: Checkpoint, watch: Stopwatch, note: str) -> tuple[Checkpoint, _Validation | None]:
    """Runs the rest of the next epoch and its validation, which is None if it was stopped; saves when that is due."""
    config, epoch = run.config, at.progress.epoch + 1
    try:
        chunks, work = _chunks_of_an_epoch(run)
        with run.console.task(f"epoch {epoch}/{config.epochs}", chunks, "chunks", note=note, work=work) as task:
            for number, programs in enumerate(run.stages):
                stage = at.stages[number] if number < len(at.stages) else None
                if stage is not None:
                    task.skip(programs.embedded_chunks)
                    task.skip(stage.steps * programs.batch_chunks, TRAINING_COST)
                    if stage.is_complete:
                        continue
                view = StageView(programs.title, task, watch, run.stop, run.clock.is_due)
                while stage is None or not stage.is_complete:
                    if run.stop():
                        raise StoppedError
                    if stage is not None and run.clock.is_due():
                        with watch.part("save"):
                            _save_checkpoint(run, at)
                    seed = config.seed, epoch, number
                    state, stage = run_stage(programs, at.state, stage, seed, view, partial(_heed, run))
                    at = at._replace(state=state, stages=(*at.stages[:number], stage))
                _look_at(stage, f"epoch {epoch}, {programs.title}", run)
            view = StageView("validation", task, watch, run.stop)
            with view.part("validate", "predicting"):
                return at, _validate(run, at, epoch, view)
    except StoppedError:
        return at, None


def _note(selection: Selection, progress: Progress, last: float) -> str:
    """The selecting metric of the last epoch, or of the best one after a resume."""
    if math.isfinite(last):
        return f"{selection.title} {last:z.3f}"
    return f"best {selection.title} {progress.best_value:z.3f}" if math.isfinite(progress.best_value) else ""


def _complete_epoch(
    run: _Run, at: Checkpoint, validation: _Validation, watch: Stopwatch
) -> tuple[Checkpoint, dict[str, Any]]:
    """Writes the assignments and, if the epoch is the best so far, the pending model; returns the epoch's metrics."""
    progress, epoch = at.progress, at.progress.epoch + 1
    scores, values = validation
    value = values.get(run.selection.entry, math.nan)
    # Without anything to choose by, the last epoch is kept.
    better = not run.selecting or progress.best_epoch == 0 or run.selection.is_better(value, progress.best_value)
    progress = progress._replace(epoch=epoch)
    if better:
        progress = Progress(epoch, epoch, value if math.isfinite(value) else -math.inf)
    metrics: dict[str, Any] = {"epoch": epoch}
    if parallel.is_primary():
        with watch.part("save"):
            metrics |= _stage_metrics(run, at.stages, epoch)
            if better:
                _save_best(run, at, progress)
    if scores:
        metrics |= {"validation_ccc": {name: score.ccc for name, score in scores.items()}, **values}
    metrics |= {"best_epoch": progress.best_epoch, "seconds": watch.seconds}
    return Checkpoint(at.state, progress), metrics


def _chunks_of_an_epoch(run: _Run) -> tuple[int, float]:
    """Chunks that go through the network in an epoch, and what they cost, for the progress bar."""
    trained = sum(stage.trained_chunks for stage in run.stages)
    passed = sum(stage.embedded_chunks for stage in run.stages)
    if run.data.validation is not None:
        passed += run.data.validation.chunk_count
    return passed + trained, passed + TRAINING_COST * trained


def _heed(run: _Run, found: NotFinite) -> None:
    """Lists the chunks in the work directory, and stops the run unless it may skip a step's batch."""
    listed = run.workdir
    with parallel.all_or_none():
        if parallel.is_primary():
            listed = save_not_finite(run.workdir, found, run.data)
    where = f"{found} ({len(found.chunks)} chunks, listed in {listed})"
    if not found.step:
        raise DivergedError(f"{where}; leave out these recordings, or, if it is most of them, lower the learning rates")
    if run.config.on_nan == "stop":
        raise DivergedError(
            f"{where}; give `resume` and `on_nan=skip` to go on without such batches, or lower the learning rates"
        )


def _look_at(stage: StageProgress, title: str, run: _Run) -> None:
    """Warns about batches that were left out and collapsed clusters; stops a run that no longer learns anything."""
    left_out = int(stage.log.left_out.sum())
    if left_out == stage.steps:
        raise DivergedError(
            f"{title}: the loss or gradient of all {stage.steps} batches is infinite or NaN, nothing is learned; "
            "train anew with lower learning rates"
        )
    if not parallel.is_primary():
        return
    if left_out:
        run.console.warn(f"{title}: {left_out} of {stage.steps} batches left out (see {run.workdir / NOT_FINITE})")
    if stage.clusters is not None:
        used, clusters = len(np.unique(stage.clusters.assignments)), run.config.model.clusters
        if used < clusters:
            run.console.warn(f"{title}: {used} of {clusters} clusters hold all chunks: their embeddings hardly differ")


def _validate(run: _Run, at: Checkpoint, epoch: int, view: StageView) -> _Validation:
    split, names = run.data.validation, run.config.model.attributes
    if split is None:
        return {}, {}
    outputs = run.forward(at.state.evaluated, split, view.task.advance, view.stop, view.compiling)
    of_chunks = chunk_attributes(outputs, split)
    bad = np.flatnonzero(~np.isfinite(of_chunks).all(axis=2))
    if len(bad):
        _heed(run, NotFinite(epoch, "validation", "validation", 0, {"prediction": math.nan}, bad))
    predictions = sentence_attributes(of_chunks, run.label_mean, run.label_std)
    scores = score_sentences(split.labels.of(names), predictions, names)
    return scores, selection_values(scores, of_chunks, run.targets(split), run.label_std, run.selecting)


def _stage_metrics(run: _Run, stages: tuple[StageProgress, ...], epoch: int) -> dict[str, Any]:
    """Losses, cluster sizes and agreement with the previous epoch's clusters; writes the assignments."""
    previous = read_assignments(run.workdir, epoch - 1, run.id, run.config.model.clusters)
    by_name = {programs.stage.name: stage for programs, stage in zip(run.stages, stages, strict=True)}
    left_out = {name: count for name, stage in by_name.items() if (count := int(stage.log.left_out.sum()))}
    metrics: dict[str, Any] = {"left_out_batches": left_out} if left_out else {}
    step_metrics = metrics[STEP_METRICS] = {}
    for name, stage in by_name.items():
        # Only the labelled stage has a CCC loss, which needs no prefix.
        terms, step_metrics[name] = stage.means
        metrics |= {term if term == "ccc_loss" else f"{name}_{term}": value for term, value in terms.items()}
        if stage.clusters is not None:
            suffix = "_unlabeled" if name == "stage1" else ""
            sizes, nmi = cluster_metrics(stage.clusters.assignments, run.config.model.clusters, previous.get(name))
            metrics |= {f"cluster_sizes{suffix}": sizes, f"nmi_previous{suffix}": nmi}
    assignments = {name: stage.clusters.assignments for name, stage in by_name.items() if stage.clusters is not None}
    if assignments:
        write_assignments(run.workdir, epoch, run.id, assignments)
    return metrics


def _save_best(run: _Run, at: Checkpoint, progress: Progress) -> None:
    clusters = at.stages[-1].clusters
    best_value = progress.best_value if math.isfinite(progress.best_value) else None
    model = SavedModel(
        config=run.config.model,
        clustering=run.config.clustering,
        features=run.data.features,
        feature_mean=run.data.feature_mean,
        feature_std=run.data.feature_std,
        label_mean=run.label_mean,
        label_std=run.label_std,
        audio=run.data.audio,
        inputs=run.data.inputs,
        variables=parallel.first_replica(at.state.evaluated),
        transform=None if clusters is None else clusters.fitted,
        centroids=None if clusters is None else clusters.centroids,
        origin={
            "training": dataclasses.asdict(run.config),
            "run": run.id,
            "epoch": progress.epoch,
            run.selection.origin_entry: best_value,
        },
    )
    write_pending(run.workdir / MODEL, model)


def _epoch_line(metrics: dict[str, Any], config: TrainConfig) -> str:
    parts = [f"epoch {metrics['epoch']}/{config.epochs}"]
    for metric, value in metrics.items():
        if (name := loss_name(metric)) is not None:
            parts.append(f"{name} {value:.3f}" if abs(value) >= 0.01 else f"{name} {value:.1e}")
    parts += [f"validation CCC {name} {value:z.3f}" for name, value in metrics.get("validation_ccc", {}).items()]
    if config.select_by != "ccc":
        selection = SELECTIONS[config.select_by]
        parts.append(f"validation {selection.title} {metrics.get(selection.entry, math.nan):.3f}")
    if math.isfinite(metrics.get("nmi_previous", math.nan)):
        parts.append(f"NMI {metrics['nmi_previous']:.2f}")
    parts.append(f"{sum(metrics['seconds'].values()):.0f} s")
    if compiling := round(metrics["seconds"].get("compile", 0.0)):
        parts.append(f"{compiling} s of them compiling")
    return ", ".join(parts)
