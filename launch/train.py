"""`python -m launch.train`: from prepared records to a model directory; without arguments, the demo."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import math
import shlex
import sys
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from emocluster_jax.config import PRESETS, Preset, TrainConfig, from_dict
from emocluster_jax.disk import writing
from emocluster_jax.errors import InputError
from emocluster_jax.host_memory import keep_freed_memory
from emocluster_jax.processes import Processes
from launch import command, prepare
from launch.signals import deferred

if TYPE_CHECKING:
    import numpy as np

    from emocluster_jax.evaluation.evaluate import Evaluation
    from emocluster_jax.feed.choice import Feed
    from emocluster_jax.records.preparation import Preparation
    from emocluster_jax.reporting.console import Console
    from emocluster_jax.training.checkpoints import Progress
    from emocluster_jax.training.data import TrainingData

DEMO = Path("emocluster-demo")
PLOTS = "plots"
_STOPPING = "stopping after this step; a second signal ends at once, without a checkpoint"

DESCRIPTION = """Train DeepEmoCluster, or by --model a system to compare it with, on prepared records: in each epoch
stage I on the unlabelled pool and stage II on the labelled recordings. Without --data-dir it makes a demo corpus of
synthetic speech, prepares it and trains a narrow network on it; running it again re-uses what is there."""


@dataclass(frozen=True)
class Options:
    """What to train on, where results go, and the run's settings."""

    data_dir: Path | None = None
    """Records that launch.prepare wrote; without it, the demo corpus in emocluster-demo/."""
    workdir: Path | None = None
    """Takes checkpoints, the best model, metrics and plots. [required with --data-dir]"""
    preset: Preset = "demo"
    """Starting point of the settings; `paper` where --data-dir is given. It takes the whole pool, paper-fsl none of it,
    and paper-as-published leaves the regressor untrained."""
    config_file: Path | None = field(default=None, metadata={"option": "config"})
    """Starting point of the settings in place of a preset: the run.json of another run."""
    config: TrainConfig = field(default_factory=TrainConfig)
    resume: bool = False
    """Go on with the run that is in --workdir, or begin it."""
    feed: Literal["auto", "resident", "streamed"] = "auto"
    """Hold all chunks in the devices' memory, or read them from the records as they are needed; results are the same.
    `auto` holds them where they fit."""
    processes: Processes = field(default_factory=Processes)
    quiet: bool = False
    """Print only warnings and errors."""


def parse(arguments: list[str], prog: str | None = None) -> Options:
    """The options; the preset, or the file of settings, decides on the defaults of the settings.

    Args:
      arguments: of the command line.
      prog: the command whose arguments they are, for messages, if not this one.

    Raises:
      InputError: there is a preset and a file, or the file holds no settings.
    """
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    for name in ("--preset", "--config", "--data-dir"):
        first.add_argument(name, name.replace("a-d", "a_d"), nargs="?")
    chosen, _ = first.parse_known_args(arguments)
    default = Options()
    if chosen.config is not None:
        if chosen.preset is not None:
            raise InputError("--preset and --config are both given; each is a starting point of the settings, give one")
        default = Options(config=_settings_in(Path(chosen.config)))
    elif (preset := chosen.preset or ("demo" if chosen.data_dir is None else "paper")) in PRESETS:
        default = Options(preset=preset, config=PRESETS[preset])
    return command.parse(
        Options,
        prog=prog or command.invocation("train"),
        description=DESCRIPTION,
        example="--data-dir data --workdir run --attributes arousal --clusters 10 --epochs 50",
        default=default,
        args=arguments,
    )


def _settings_in(path: Path) -> TrainConfig:
    """The settings in a run.json, which `launch.train` writes, or in a file that holds no more than them.

    Raises:
      InputError: it cannot be read, or holds no settings.
    """
    try:
        values = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"--config {path} cannot be read ({error}); give the run.json of a work directory") from None
    return from_dict(TrainConfig, values.get("config", values) if isinstance(values, dict) else values, str(path))


def main() -> None:
    options = parse(sys.argv[1:])
    if (options.data_dir is None) != (options.workdir is None):
        given, missing = ("--workdir", "--data-dir") if options.data_dir is None else ("--data-dir", "--workdir")
        raise InputError(f"{given} is given without {missing}; give both, or neither for the demo")
    if options.data_dir is not None and not options.data_dir.is_dir():
        raise InputError(
            f"--data-dir {options.data_dir} does not exist; prepare it with {command.invocation('prepare')}"
        )

    keep_freed_memory()
    command.enable_compilation_cache()
    import jax

    from emocluster_jax import parallel

    parallel.start_processes(options.processes)
    if options.data_dir is None and jax.process_count() > 1:
        raise InputError("several processes cannot run the demo; give --data-dir and --workdir")
    from emocluster_jax.reporting.console import Console

    console = Console(quiet=options.quiet or not parallel.is_primary())
    if options.data_dir is None or options.workdir is None:
        _prepare_demo(console, options.config)
        options = dataclasses.replace(options, data_dir=DEMO / "records", workdir=DEMO / "run", resume=True)
    assert options.workdir is not None
    try:
        with writing(options.workdir, f"make room or mend it, then go on with: {_command_to_resume(options)}"):
            _train(options, console)
    except KeyboardInterrupt as signal:
        raise type(signal)(f"go on with: {_command_to_resume(options)}") from None


def _command_to_resume(options: Options) -> str:
    return f"{command.invocation('train')} {shlex.join([*sys.argv[1:], *([] if options.resume else ['--resume'])])}"


def _prepare_demo(console: Console, config: TrainConfig) -> None:
    """Makes and prepares the demo corpus where it is not there yet."""
    console.line(
        f"Demo: synthetic speech, a network of {config.model.width_multiplier:g} times the published width; "
        f"everything goes to {DEMO}/"
    )
    prepare.prepare_corpus(prepare.Options("demo", DEMO / "corpus", DEMO / "records"), console)


def _train(options: Options, console: Console) -> None:
    """Trains, evaluates the best epoch on the test split, and says where everything is."""
    import jax

    from emocluster_jax import parallel
    from emocluster_jax.feed.choice import resolve_feed
    from emocluster_jax.records.preparation import read_preparation
    from emocluster_jax.segments import StoppedError
    from emocluster_jax.training.checkpoints import has_checkpoint
    from emocluster_jax.training.fine_tuning import read_initial_model
    from emocluster_jax.training.loop import fit
    from emocluster_jax.training.workdir import check_joined, claim, locked

    assert options.data_dir is not None and options.workdir is not None
    with parallel.all_or_none():
        preparation = read_preparation(options.data_dir)
        # A run that goes on has weights of its own, and needs those that it began with no more.
        goes_on = has_checkpoint(options.workdir)
        initial = None if goes_on else read_initial_model(options.config, preparation.features)
    if not parallel.same_everywhere(str(initial and initial.sha256)):
        raise InputError(f"not all processes find the same model in {options.config.init_from}; give equal copies")
    if jax.process_count() > 1:
        console.line(f"{jax.process_count()} processes with {jax.device_count()} devices")
    with contextlib.ExitStack() as held:
        run = options.workdir, options.config, preparation.fingerprint
        with parallel.all_or_none():
            if parallel.is_primary():
                held.enter_context(locked(options.workdir))
                claim(*run, resume=options.resume, initial_sha256=initial and initial.sha256)
        with parallel.all_or_none():
            check_joined(*run)
        pool = _pool(preparation, options.config, console)
        counts = {**preparation.counts, "unlabeled": len(pool)}
        feed = resolve_feed(options.feed, list(counts.values()), preparation.features, console)
        data = _load(options.data_dir, preparation, pool, feed, console)
        draw_curves = partial(_draw_curves, options.workdir)
        try:
            with deferred(_STOPPING if parallel.is_primary() else "") as stop:
                progress = fit(
                    options.config, data, options.workdir, console, stop, initial and initial.model, draw_curves
                )
        except StoppedError:
            raise stop.exception() from None
        parallel.wait_for_all("the best model is written")
        evaluation = _evaluate(options.data_dir, options.workdir, preparation, feed, console)
        if parallel.is_primary():
            _report(options, preparation, progress, evaluation, console)


def _pool(preparation: Preparation, config: TrainConfig, console: Console) -> np.ndarray:
    """The unlabelled recordings that training uses: none for a system that learns from labels alone."""
    from emocluster_jax import parallel
    from emocluster_jax.feed.from_records import pool_prefix
    from emocluster_jax.systems.registry import stages_of

    if stages_of(config).unlabeled is None:
        return pool_prefix(0, None)
    pool = pool_prefix(preparation.counts.get("unlabeled", 0), config.unlabeled_size)
    if config.unlabeled_size is not None and len(pool) < config.unlabeled_size and parallel.is_primary():
        console.warn(
            f"the unlabelled pool holds {len(pool)} recordings, fewer than {config.unlabeled_size}: all are used"
        )
    return pool


def _load(data_dir: Path, preparation: Preparation, pool: np.ndarray, feed: Feed, console: Console) -> TrainingData:
    """The splits that training uses."""
    from emocluster_jax.feed.from_records import load_split
    from emocluster_jax.records.reader import read_ids
    from emocluster_jax.training.data import TrainingData

    return TrainingData(
        train=load_split(data_dir, preparation, "train", console, feed=feed),
        validation=load_split(data_dir, preparation, "validation", console, feed=feed)
        if preparation.counts.get("validation")
        else None,
        unlabeled=load_split(data_dir, preparation, "unlabeled", console, pool, feed) if len(pool) else None,
        features=preparation.features,
        feature_mean=preparation.feature_statistics.mean,
        feature_std=preparation.feature_statistics.std,
        recording_ids=lambda split, rows: read_ids(data_dir, split, pool[rows] if split == "unlabeled" else rows),
    )


def _evaluate(
    data_dir: Path, workdir: Path, preparation: Preparation, feed: Feed, console: Console
) -> Evaluation | None:
    """The best epoch's scores on the test split, if there is one."""
    from emocluster_jax import parallel
    from emocluster_jax.evaluation.evaluate import evaluate_split
    from emocluster_jax.feed.from_records import load_split
    from emocluster_jax.model_directory import read_model
    from emocluster_jax.records.reader import read_ids
    from emocluster_jax.training.loop import MODEL

    if not preparation.counts.get("test"):
        return None
    split = load_split(data_dir, preparation, "test", console, feed=feed)
    with parallel.all_or_none():
        model = read_model(workdir / MODEL)
    return evaluate_split(model, split, partial(read_ids, data_dir, "test"), console)


def _draw_curves(workdir: Path) -> None:
    """The curves of the epochs so far."""
    from emocluster_jax.reporting.metrics_log import METRICS_FILE, read_metrics
    from emocluster_jax.reporting.plots import training_curves

    (workdir / PLOTS).mkdir(exist_ok=True)
    training_curves(read_metrics(workdir / METRICS_FILE), workdir / PLOTS / "training.png")


def _report(
    options: Options, preparation: Preparation, progress: Progress, evaluation: Evaluation | None, console: Console
) -> None:
    """Plots, predictions and scores of the test split, what the clusters know, and the closing lines."""
    from emocluster_jax.evaluation.score_file import TEST_SCORES, write_scores
    from emocluster_jax.reporting.metrics_log import METRICS_FILE
    from emocluster_jax.training.loop import MODEL

    workdir = options.workdir
    assert workdir is not None
    _draw_curves(workdir)
    console.line()
    if math.isfinite(progress.best_ccc):
        console.line(f"Best of {progress.epoch} epochs: {progress.best_epoch} (validation CCC {progress.best_ccc:.3f})")
    else:
        console.line(f"{progress.epoch} epochs; the last one's model is kept")
    if options.config.stages == "unsupervised":
        console.line("Its regressor was not trained (--stages unsupervised), and scores no better than chance.")
    if evaluation is not None:
        _report_test(options, preparation, evaluation, console)
    _report_clusters(options, preparation, progress, console)
    if evaluation is not None:
        write_scores(workdir / TEST_SCORES, evaluation.scores)
    console.line(f"Model: {workdir / MODEL}   plots: {workdir / PLOTS}   metrics: {workdir / METRICS_FILE}")
    predict = f"--checkpoint {workdir / MODEL} --input {preparation.source} --output predictions.csv"
    console.line("Predict with:")
    console.line(f"  {command.invocation('predict')} {predict}")
    console.line('See more of this run on a page (pip install "emocluster_jax[report]"):')
    console.line(f"  {command.invocation('report')} --workdir {workdir} --data-dir {options.data_dir}")


def _report_test(options: Options, preparation: Preparation, evaluation: Evaluation, console: Console) -> None:
    """The predictions for the test split as CSV and plots, and their scores in lines."""
    from emocluster_jax.evaluation.prediction_file import TEST_PREDICTIONS, SentencePredictions, write_predictions
    from emocluster_jax.records.reader import read_descriptions
    from emocluster_jax.reporting.plots import prediction_scatter

    assert options.data_dir is not None and options.workdir is not None
    ids = tuple(read_descriptions(options.data_dir, "test").ids)
    sentences = SentencePredictions(ids, evaluation.attributes, evaluation.truth, evaluation.predictions)
    write_predictions(options.workdir / TEST_PREDICTIONS, sentences)
    for name, truth, predictions in zip(
        evaluation.attributes, evaluation.truth.T, evaluation.predictions.T, strict=True
    ):
        prediction_scatter(
            truth, predictions, name, evaluation.scores[name].ccc, options.workdir / PLOTS / f"test_{name}.png"
        )
    heard = "voices that training never heard" if preparation.corpus == "demo" else "the test split"
    console.line(f"Test, on {heard}:")
    for name, scores in evaluation.scores.items():
        console.line(
            f"  {name}: CCC {scores.ccc:.3f}, Pearson r {scores.pearson:.3f}, RMSE {scores.rmse:.3f} "
            f"({scores.n} recordings)"
        )


def _report_clusters(options: Options, preparation: Preparation, progress: Progress, console: Console) -> None:
    """What the best epoch's clusters of the training split know, as JSON and in a line, for systems that cluster."""
    from emocluster_jax.atomic_files import write_json
    from emocluster_jax.evaluation.cluster_information import cluster_information
    from emocluster_jax.records.reader import read_descriptions
    from emocluster_jax.training.workdir import CLUSTERS_FILE, read_training_clusters

    assert options.data_dir is not None and options.workdir is not None
    assignments = read_training_clusters(options.workdir, progress.best_epoch)
    if assignments is None:
        return
    train = read_descriptions(options.data_dir, "train")
    found = cluster_information(assignments, train.attributes, train.speakers, train.genders)
    write_json(options.workdir / CLUSTERS_FILE, {"epoch": progress.best_epoch, **dataclasses.asdict(found)})
    labels = {**found.attributes, "speaker": found.speaker, "gender": found.gender}
    parts = [
        f"{name} {label.ami_of_sentences:.3f} ({label.p_value:.3g})"
        for name, label in labels.items()
        if label is not None
    ]
    console.line(f"Clusters tell of, as adjusted mutual information (permutation p): {', '.join(parts)}")


if __name__ == "__main__":
    command.run(main)
