"""Training from start to end: the epochs, their checkpoints, and the choice of the best one (paper, section 2.2)."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from emocluster_jax.config import TrainConfig
from emocluster_jax.console import Console, Task
from emocluster_jax.errors import InputError
from emocluster_jax.evaluation.selection import SELECTIONS, Selection, selection_values
from emocluster_jax.evaluation.sentences import Scores, score_sentences, sentence_attributes
from emocluster_jax.feed.split import Split
from emocluster_jax.inference.forward import Forward, chunk_attributes, make_forward
from emocluster_jax.inference.model_directory import (
    MODEL,
    SavedModel,
    adopt_pending,
    model_epoch,
    settle,
    write_pending,
)
from emocluster_jax.models.registry import NETWORKS, network_of, trains_on_recordings
from emocluster_jax.objectives.stage import Stage, stages_of
from emocluster_jax.runtime import parallel
from emocluster_jax.runtime.loops import StoppedError
from emocluster_jax.settings import to_dict
from emocluster_jax.training.batches import Batches, ClusteredBatches, ShuffledBatches, StageView, Stopwatch
from emocluster_jax.training.checkpoints import (
    Checkpoint,
    Progress,
    SaveClock,
    restore_checkpoint,
    save_checkpoint,
)
from emocluster_jax.training.checks import batch_chunks_of, check_settings, label_warnings, selecting_attributes
from emocluster_jax.training.data import TrainingData, label_statistics, normalized_labels
from emocluster_jax.training.epoch import StagePrograms, StageProgress, progress_shape, run_stage
from emocluster_jax.training.fine_tuning import announce, start_from
from emocluster_jax.training.metrics_log import STEP_METRICS, MetricsLog, cluster_metrics, loss_name
from emocluster_jax.training.not_finite import NOT_FINITE, DivergedError, NotFinite, save_not_finite
from emocluster_jax.training.programs import clustering_program, redraw_head_program, training_program
from emocluster_jax.training.state import TrainState, create_train_state
from emocluster_jax.training.steps import step_log
from emocluster_jax.training.workdir import CHECKPOINTS, read_assignments, write_assignments


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
    run = _prepare_run(config, data, workdir, run_id, lambda: parallel.anywhere(stop()))
    if parallel.is_primary():
        for warning in label_warnings(config, run.data, run.selecting):
            console.warn(warning)
    with console.task("starting"):
        state, progress, stages = _start(run, initial, console)
    log = _open_log(run, progress)
    saved = SaveClock(config.checkpoint_minutes)
    last = math.nan
    try:
        while progress.epoch < config.epochs and not _out_of_patience(config, progress):
            watch, begun = Stopwatch(), stages
            note = _note(run.selection, progress, last)
            state, stages, validation = _train_epoch(run, state, progress, begun, watch, note, console, saved)
            if validation is None:
                if sum(stage.steps for stage in stages) > sum(stage.steps for stage in begun):
                    _save_checkpoint(run, state, progress, stages)
                raise StoppedError
            progress, metrics = _complete_epoch(run, state, progress, stages, validation, watch)
            stages, last = (), metrics.get(run.selection.entry, math.nan)
            if log is not None:
                log.write(metrics)
            _save_checkpoint(run, state, progress)
            saved.restart()
            if log is not None:
                # Only after the checkpoint: a resumed run settles what a kill between the two left behind.
                adopt_pending(workdir / MODEL)
                console.line(_epoch_line(metrics, config))
                after_epoch()
    finally:
        if log is not None:
            log.close()
    with parallel.all_or_none():
        if parallel.is_primary():
            _check_model(run, progress)
    return progress


@dataclass(frozen=True)
class _Run:
    """The constants of a run."""

    config: TrainConfig
    data: TrainingData
    workdir: Path
    id: str
    label_mean: np.ndarray
    label_std: np.ndarray
    forward: Forward
    stages: tuple[StagePrograms, ...]
    selecting: tuple[str, ...]
    """The attributes by which the best epoch is chosen; without any, the last epoch is kept."""
    stop: Callable[[], bool]  # the same on all processes

    @property
    def selection(self) -> Selection:
        return SELECTIONS[self.config.select_by]


def _prepare_run(config: TrainConfig, data: TrainingData, workdir: Path, run_id: str, stop: Callable[[], bool]) -> _Run:
    """Checks the settings against data and devices, and builds the programs."""
    if config.stages == "unsupervised":
        data = dataclasses.replace(data, validation=None)  # no regressor to choose an epoch by
    selecting = selecting_attributes(config, data)
    check_settings(config, data, selecting)
    names = config.model.attributes
    if data.train is None:
        label_mean = label_std = np.full(len(names), np.nan, np.float32)
    else:
        label_mean, label_std = label_statistics(data.train.labels.of(names), names)
    whole_recordings = trains_on_recordings(config.model)
    embed, redraw_head = make_forward(config.model, fast=True), redraw_head_program()

    def batches(split: Split) -> Batches:
        if not NETWORKS[config.model.system].clusters:
            return ShuffledBatches(split, whole_recordings)
        cluster = clustering_program(config.clustering, config.model.clusters, split.chunk_count)
        return ClusteredBatches(split, whole_recordings, embed, cluster, redraw_head)

    def programs(stage: Stage, title: str, source: str, split: Split) -> StagePrograms:
        targets, present = normalized_labels(split.labels.of(config.model.attributes), label_mean, label_std)
        drawn = batches(split)
        train = training_program(stage, split.chunks_per_utterance, drawn.together)
        log = step_log(config, data.features, stage.name, data.inputs)
        return StagePrograms(stage, title, source, log, drawn, targets, present, train)

    stages = stages_of(config, parallel.AXIS)
    found = []
    if stages.unlabeled is not None and data.unlabeled is not None:
        found.append(programs(stages.unlabeled, "stage I", "unlabeled", data.unlabeled))
    if data.train is not None:
        found.append(programs(stages.labeled, "stage II", "train", data.train))
    forward = make_forward(config.model)
    return _Run(config, data, workdir, run_id, label_mean, label_std, forward, tuple(found), selecting, stop)


def _start(run: _Run, initial: SavedModel | None, console: Console) -> Checkpoint:
    """The latest checkpoint, or that of a new run, with its state on every device."""
    # RBG because XLA takes many seconds to compile Threefry for so many arrays.
    key = jax.random.key(run.config.seed, impl="rbg")
    optimizers = {programs.stage.name: programs.stage.optimizer for programs in run.stages}
    state = create_train_state(network_of(run.config.model), run.data.features, optimizers, key, run.data.inputs)

    def stages() -> list[StageProgress]:
        return [progress_shape(programs, batch_chunks_of(run.config, run.data)) for programs in run.stages]

    found = restore_checkpoint(run.workdir / CHECKPOINTS, state, stages, run.id)
    if found is None and initial is not None:
        state, drawn = start_from(state, initial, run.config.model)
        if parallel.is_primary():
            announce(initial, run.config, drawn, run.data, console)
    found = found or Checkpoint(state, Progress())
    position = found.progress, [stage.steps for stage in found.stages]
    if not parallel.same_everywhere(str(position)):
        raise InputError(
            f"not all processes find the same checkpoint in {run.workdir}; choose a `workdir` on a file system that "
            "all processes share"
        )
    return found._replace(
        state=parallel.replicate(found.state), progress=_agree_with_model(run, found.progress, console)
    )


def _agree_with_model(run: _Run, progress: Progress, console: Console) -> Progress:
    """The checkpoint's progress, once the model directory agrees with it.

    If the best epoch's model is missing, as after a user has removed a damaged checkpoint with a better one, the next
    epoch counts as better.
    """
    model, is_lost = run.workdir / MODEL, False
    with parallel.all_or_none():
        if parallel.is_primary():
            settle(model, progress.best_epoch, run.id)
            is_lost = progress.best_epoch > 0 and model_epoch(model, run.id) != progress.best_epoch
            if is_lost:
                console.warn(
                    f"{model} is not of this run's epoch {progress.best_epoch}, the best so far; the next epoch "
                    "replaces it"
                )
    return dataclasses.replace(progress, best_value=-math.inf) if parallel.anywhere(is_lost) else progress


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


def _save_checkpoint(run: _Run, state: TrainState, progress: Progress, stages: Sequence[StageProgress] = ()) -> None:
    if parallel.is_primary():
        checkpoint = Checkpoint(parallel.first_replica(state), progress, tuple(stages))
        save_checkpoint(run.workdir / CHECKPOINTS, checkpoint, run.id)


def _out_of_patience(config: TrainConfig, progress: Progress) -> bool:
    return config.patience is not None and progress.epoch - progress.best_epoch >= config.patience


def _train_epoch(
    run: _Run,
    state: TrainState,
    progress: Progress,
    begun: tuple[StageProgress, ...],
    watch: Stopwatch,
    note: str,
    console: Console,
    saved: SaveClock,
) -> tuple[TrainState, tuple[StageProgress, ...], _Validation | None]:
    """Runs the rest of the next epoch's stages and the validation, which is None if the epoch was stopped.

    Checkpoints are written on the way when they are due.
    """
    config, epoch, stages = run.config, progress.epoch + 1, list(begun)
    batch_chunks = batch_chunks_of(config, run.data)
    try:
        with console.task(f"epoch {epoch}/{config.epochs}", _chunks_of_an_epoch(run, batch_chunks), note) as task:
            for number, programs in enumerate(run.stages):
                stage = stages[number] if number < len(stages) else None
                if stage is not None:
                    task.advance(programs.batches.embedded_chunks + stage.steps * batch_chunks)
                    if stage.is_complete:
                        continue
                while stage is None or not stage.is_complete:
                    if run.stop():
                        raise StoppedError
                    if stage is not None and saved.is_due():
                        with watch.part("save"):
                            _save_checkpoint(run, state, progress, stages)
                        saved.restart()
                    state, stage = run_stage(
                        programs,
                        state,
                        stage,
                        batch_chunks=batch_chunks,
                        seed=(config.seed, epoch, number),
                        view=StageView(programs.title, task, watch, run.stop, saved.is_due),
                        report=partial(_heed, run),
                    )
                    stages[number:] = [stage]
                _look_at(stage, f"epoch {epoch}, {programs.title}", run, console)
            with watch.part("validate"):
                task.describe("validation")
                return state, tuple(stages), _validate(run, state, epoch, task)
    except StoppedError:
        return state, tuple(stages), None


def _note(selection: Selection, progress: Progress, last: float) -> str:
    """The selecting metric of the last epoch, or of the best one after a resume."""
    if math.isfinite(last):
        return f"{selection.title} {last:z.3f}"
    return f"best {selection.title} {progress.best_value:z.3f}" if math.isfinite(progress.best_value) else ""


def _complete_epoch(
    run: _Run,
    state: TrainState,
    progress: Progress,
    stages: tuple[StageProgress, ...],
    validation: _Validation,
    watch: Stopwatch,
) -> tuple[Progress, dict[str, Any]]:
    """Writes the assignments and, if the epoch is the best so far, the pending model; returns progress and metrics."""
    epoch = progress.epoch + 1
    scores, values = validation
    value = values.get(run.selection.entry, math.nan)
    # Without anything to choose by, the last epoch is kept.
    better = not run.selecting or progress.best_epoch == 0 or run.selection.is_better(value, progress.best_value)
    if better:
        progress = Progress(epoch, epoch, value if math.isfinite(value) else -math.inf)
    else:
        progress = dataclasses.replace(progress, epoch=epoch)
    metrics: dict[str, Any] = {"epoch": epoch}
    if parallel.is_primary():
        with watch.part("save"):
            metrics |= _stage_metrics(run, stages, epoch)
            if better:
                _save_best(run, state, stages[-1], progress)
    if scores:
        metrics |= {"validation_ccc": {name: score.ccc for name, score in scores.items()}, **values}
    return progress, metrics | {"best_epoch": progress.best_epoch, "seconds": watch.seconds}


def _chunks_of_an_epoch(run: _Run, batch_chunks: int) -> int:
    """Chunks that go through the network in an epoch, for the progress bar."""
    total = 0 if run.data.validation is None else run.data.validation.chunk_count
    for programs in run.stages:
        steps = -(-programs.batches.split.chunk_count // batch_chunks)
        total += programs.batches.embedded_chunks + steps * batch_chunks
    return total


def _heed(run: _Run, found: NotFinite) -> None:
    """Lists the chunks in the work directory, and stops the run unless it may skip a step's batch."""
    per_recording = run.data.features.chunks_per_utterance
    listed = run.workdir
    with parallel.all_or_none():
        if parallel.is_primary():
            positions, of_chunk = np.unique(found.chunks // per_recording, return_inverse=True)
            ids = run.data.recording_ids(found.split, positions)
            listed = save_not_finite(run.workdir, found, [ids[i] for i in of_chunk], found.chunks % per_recording)
    where = f"{found} ({len(found.chunks)} chunks, listed in {listed})"
    if not found.step:
        raise DivergedError(f"{where}; leave out these recordings, or, if it is most of them, lower the learning rates")
    if run.config.on_nan == "stop":
        raise DivergedError(
            f"{where}; give `resume` and `on_nan=skip` to go on without such batches, or lower the learning rates"
        )


def _look_at(stage: StageProgress, title: str, run: _Run, console: Console) -> None:
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
        console.warn(f"{title}: {left_out} of {stage.steps} batches left out (see {run.workdir / NOT_FINITE})")
    if stage.clusters is not None:
        used, clusters = len(np.unique(stage.clusters.assignments)), run.config.model.clusters
        if used < clusters:
            console.warn(f"{title}: {used} of {clusters} clusters hold all chunks: their embeddings hardly differ")


class _Validation(NamedTuple):
    """Scores by attribute and `selection_values`; both empty without a validation split."""

    scores: dict[str, Scores]
    values: dict[str, float]


def _validate(run: _Run, state: TrainState, epoch: int, task: Task) -> _Validation:
    split = run.data.validation
    if split is None:
        return _Validation({}, {})
    outputs = run.forward(state.variables, split, task.advance, run.stop)
    of_chunks = chunk_attributes(outputs, split)
    bad = np.flatnonzero(~np.isfinite(of_chunks).all(axis=2))
    if len(bad):
        _heed(run, NotFinite(epoch, "validation", "validation", 0, {"prediction": math.nan}, bad))
    predictions = sentence_attributes(of_chunks, run.label_mean, run.label_std)
    names = run.config.model.attributes
    truth = split.labels.of(names)
    scores = score_sentences(truth, predictions, names)
    targets = (truth - run.label_mean) / run.label_std
    return _Validation(scores, selection_values(scores, of_chunks, targets, run.label_std, run.selecting))


def _stage_metrics(run: _Run, stages: tuple[StageProgress, ...], epoch: int) -> dict[str, Any]:
    """Losses, cluster sizes and agreement with the previous epoch's clusters; writes the assignments."""
    previous = read_assignments(run.workdir, epoch - 1, run.id, run.config.model.clusters)
    counts = {
        programs.stage.name: int(stage.log.left_out.sum()) for programs, stage in zip(run.stages, stages, strict=True)
    }
    left_out = {name: count for name, count in counts.items() if count}
    metrics: dict[str, Any] = {"left_out_batches": left_out} if left_out else {}
    assignments: dict[str, Any] = {}
    step_metrics = metrics[STEP_METRICS] = {}
    for programs, stage in zip(run.stages, stages, strict=True):
        name = programs.stage.name
        # Only the labelled stage has a CCC loss, which needs no prefix.
        terms, step_metrics[name] = stage.means
        metrics |= {term if term == "ccc_loss" else f"{name}_{term}": value for term, value in terms.items()}
        if stage.clusters is not None:
            assignments[name] = stage.clusters.assignments
            suffix = "_unlabeled" if name == "stage1" else ""
            sizes, nmi = cluster_metrics(assignments[name], run.config.model.clusters, previous.get(name))
            metrics |= {f"cluster_sizes{suffix}": sizes, f"nmi_previous{suffix}": nmi}
    if assignments:
        write_assignments(run.workdir, epoch, run.id, assignments)
    return metrics


def _save_best(run: _Run, state: TrainState, last: StageProgress, progress: Progress) -> None:
    clusters = last.clusters
    write_pending(
        run.workdir / MODEL,
        SavedModel(
            config=run.config.model,
            clustering=run.config.clustering,
            features=run.data.features,
            feature_mean=run.data.feature_mean,
            feature_std=run.data.feature_std,
            label_mean=run.label_mean,
            label_std=run.label_std,
            audio=run.data.audio,
            inputs=run.data.inputs,
            variables=parallel.first_replica(state.variables),
            transform=None if clusters is None else clusters.fitted,
            centroids=None if clusters is None else clusters.centroids,
            origin={
                "training": to_dict(run.config),
                "run": run.id,
                "epoch": progress.epoch,
                run.selection.origin_entry: progress.best_value if math.isfinite(progress.best_value) else None,
            },
        ),
    )


def _epoch_line(metrics: dict[str, Any], config: TrainConfig) -> str:
    parts = [f"epoch {metrics['epoch']}/{config.epochs}"]
    for metric, value in metrics.items():
        name = loss_name(metric)
        if name is not None:
            parts.append(f"{name} {value:.3f}" if abs(value) >= 0.01 else f"{name} {value:.1e}")
    for name, value in metrics.get("validation_ccc", {}).items():
        parts.append(f"validation CCC {name} {value:z.3f}")
    if config.select_by != "ccc":
        selection = SELECTIONS[config.select_by]
        parts.append(f"validation {selection.title} {metrics.get(selection.entry, math.nan):.3f}")
    if math.isfinite(metrics.get("nmi_previous", math.nan)):
        parts.append(f"NMI {metrics['nmi_previous']:.2f}")
    parts.append(f"{sum(metrics['seconds'].values()):.0f} s")
    if compiling := round(metrics["seconds"].get("compile", 0.0)):
        parts.append(f"{compiling} s of them compiling")
    return ", ".join(parts)
