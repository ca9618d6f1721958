"""`python -m launch.train`: from prepared records to a model directory; without arguments, the demo."""

from __future__ import annotations

import argparse
import math
import shlex
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from emocluster_jax.api.requests import FitSettings
from emocluster_jax.config import FusingName, ModelConfig, Preset, SystemName, TrainConfig, presets
from emocluster_jax.corpora.labels import VAD
from emocluster_jax.errors import InputError, one_line
from emocluster_jax.runtime.host import keep_freed_memory
from emocluster_jax.runtime.processes import Processes
from emocluster_jax.settings import from_dict
from emocluster_jax.storage.disk import check_path, writing
from emocluster_jax.storage.json_files import read_sealed
from launch import command
from launch.options import arguments_for, invocation, prediction
from launch.options import parse as parse_options
from launch.signals import deferred

if TYPE_CHECKING:
    from emocluster_jax.api.training import TrainingRun
    from emocluster_jax.console import Console

DEMO = Path("emocluster-demo")
_WITH_TEXT: dict[str, Any] = {"attributes": VAD, "inputs": ("text",), "input_dropout": 0.3, "epochs": 8}
"""What --demo-text changes in the defaults: valence is what the text tells of, and each input is to be of use alone."""
_STOPPING = "stopping after this step; a second signal ends at once, without a checkpoint"

DESCRIPTION = """Train DeepEmoCluster, or with --model a system to compare it with, on prepared records: in each epoch
stage I on the unlabelled pool and stage II on the labelled recordings. Without --data-dir it makes a demo corpus of
synthetic speech, prepares it and trains a narrow network on it; running it again uses what is there."""


@dataclass(frozen=True)
class Options:
    """What to train on, where results go, and the run's settings."""

    data_dir: Path | None = None
    """Records that launch.prepare wrote; without it, the demo corpus in emocluster-demo/."""
    workdir: Path | None = None
    """Takes checkpoints, the best model, metrics and plots. [required with --data-dir]"""
    preset: Preset | None = None
    """A named set of defaults, which other options override. `modern` is the method with AdamW, averaged weights and
    chunks changed at random, for hundreds of recordings; `small` the same at a quarter of the width, for a laptop.
    `fine-tune` starts from the model of --init-from, with its network, and changes its encoder little. `paper` has the
    published settings, 50 epochs and the whole unlabelled pool; paper-fsl uses none of the pool, and paper-as-published
    leaves the regressor untrained. [default: paper with --data-dir, small with --demo-text, else demo]"""
    config_file: Path | None = field(default=None, metadata={"option": "config"})
    """Take the defaults from the run.json of another run, instead of a preset."""
    demo_text: bool = False
    """Without `data_dir`: make a demo corpus whose sentences tell a part of the valence, in emocluster-demo/text/, and
    read them beside the audio. The defaults then are those of the preset small, with `--attributes arousal dominance
    valence --inputs text --input-dropout 0.3 --epochs 8`."""
    config: TrainConfig = field(default_factory=TrainConfig)
    running: FitSettings = field(default_factory=FitSettings)
    deterministic: bool = False
    """On GPUs, use only algorithms that give the same bits in every process, which may be slower; on CPUs all do. A
    resumed run may have another value, as of --feed."""
    processes: Processes = field(default_factory=Processes)
    quiet: bool = False
    """Print only warnings and errors."""


def parse(arguments: list[str], name: str = "train") -> Options:
    """The options of the command `name`, with the defaults of the preset, the file of settings or the resumed run.

    Raises:
      InputError: both a preset and a file are given, or both records and the demo's text; or the file holds no
        settings.
    """
    first = _first_look(arguments)
    origin, config = _defaults(first)
    if first.demo_text:
        if first.data_dir is not None:
            raise InputError("--demo-text makes records of its own, and --data-dir names others; leave one of them out")
        if (system := config.model.system) not in get_args(FusingName):
            raise InputError(
                f"--demo-text gives a text, and --model {system} reads nothing besides audio; leave one out"
            )
        origin, config = f"{origin} with --demo-text", config.replace(**_WITH_TEXT)
    changes = shlex.join(arguments_for(Options(config=presets["demo"]), Options(config=presets["paper"])))
    return parse_options(
        Options,
        name,
        f"{DESCRIPTION} The defaults below are those of {origin}; the demo has {changes}.",
        "--data-dir data --workdir run --preset small --attributes arousal",
        default=Options(config=config),
        args=arguments,
    )


def _first_look(arguments: list[str]) -> argparse.Namespace:
    """The options that say where the settings of all others start."""
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    for option in ("--preset", "--config", "--data-dir", "--workdir", "--init-from", "--model"):
        first.add_argument(option, f"--{option[2:].replace('-', '_')}", nargs="?")
    for option in (("--resume",), ("--help", "-h")):
        first.add_argument(*option, action="store_true")
    first.add_argument("--demo-text", "--demo_text", action=argparse.BooleanOptionalAction)
    return first.parse_known_args(arguments)[0]


def _defaults(given: argparse.Namespace) -> tuple[str, TrainConfig]:
    """The settings that options change, and where they are from; `given` is from `_first_look`."""
    preset = given.preset
    if given.config is not None:
        if preset is not None:
            raise InputError("--preset and --config are both given; each sets all defaults, give one")
        return given.config, _settings_in(Path(given.config))
    resumed = None
    if preset in (None, "fine-tune") and given.resume and given.workdir:
        from emocluster_jax.training.workdir import has_run, read_run

        resumed = read_run(Path(given.workdir)).config if has_run(Path(given.workdir)) else None
    if preset is None and resumed is not None:
        return f"the run in {given.workdir}", resumed
    if preset not in presets:  # where it is a wrong one, the parser says so
        preset = "demo" if given.data_dir is None and not given.help else "paper"
        if given.demo_text:
            preset = "small"  # the demo's few epochs of the published recipe learn nothing of valence
    if preset == "fine-tune" and not given.help:
        if given.init_from is None:
            raise InputError("--preset fine-tune starts from a model; give its directory by --init-from")
        # A run that goes on no longer needs the model that it began with.
        network = _network_in(Path(given.init_from)) if resumed is None else resumed.model
        return f"preset fine-tune, with the network of {given.init_from}", replace(presets[preset], model=network)
    config = presets[preset]
    if given.model in get_args(SystemName) and given.model != config.model.system:
        return f"preset {preset} for {given.model}", config.for_system(given.model)
    return f"preset {preset}", config


def _network_in(path: Path) -> ModelConfig:
    from emocluster_jax.inference.model_directory import model_folder, read_model

    check_path("--init-from", path)
    return read_model(model_folder(path)).config


def _settings_in(path: Path) -> TrainConfig:
    """The settings in a run.json, or in a file that holds only settings."""
    check_path("--config", path)
    remedy = "give the run.json of a work directory, or settings of your own (its `config` alone) in another file"
    missing = f"--config {path} does not exist; {remedy}"
    values = read_sealed(path, remedy, missing=missing, may_lack_seal=True)
    return from_dict(TrainConfig, values.get("config", values), str(path))


def main() -> None:
    options = parse(sys.argv[1:])
    if (options.data_dir is None) != (options.workdir is None):
        given, missing = ("--workdir", "--data-dir") if options.data_dir is None else ("--data-dir", "--workdir")
        raise InputError(f"{given} is given without {missing}; give both, or neither for the demo")
    if options.data_dir is not None and not options.data_dir.is_dir():
        raise InputError(f"--data-dir {options.data_dir} does not exist; prepare it with {invocation('prepare')}")

    keep_freed_memory()
    if options.deterministic:
        command.choose_deterministic_algorithms()
    import jax

    from emocluster_jax.runtime import parallel

    parallel.start_processes(options.processes)
    if options.data_dir is None and jax.process_count() > 1:
        raise InputError("several processes cannot run the demo; give --data-dir and --workdir")

    console = command.console(options.quiet or not parallel.is_primary())
    data_dir, workdir, running = options.data_dir, options.workdir, replace(options.running, console=console)
    if data_dir is None or workdir is None:
        # Beside the demo without text, so that either goes on where it was.
        folder = DEMO / "text" if options.demo_text else DEMO
        _prepare_demo(folder, options, console)
        data_dir, workdir, running = folder / "records", folder / "run", replace(running, resume=True)
    origin, defaults = _defaults(_first_look(sys.argv[1:]))
    changes = shlex.join(arguments_for(options, replace(options, config=defaults)))
    console.line(one_line(f"Settings: {origin}{changes and f', with {changes}'}"))
    again = invocation("train", *sys.argv[1:], *([] if running.resume else ["--resume"]))
    try:
        from emocluster_jax.api.training import fit
        from emocluster_jax.runtime.loops import StoppedError

        stopping = deferred(_STOPPING if parallel.is_primary() else "", StoppedError)
        with writing(workdir, f"free space or fix the disk, then go on with: {again}"):
            run = fit(data_dir, workdir, options.config, stopping=stopping, **vars(running))
            if parallel.is_primary():
                _summarize(run, data_dir, options.config, console)
    except KeyboardInterrupt as signal:
        raise type(signal)(f"go on with: {again}") from None


def _prepare_demo(folder: Path, options: Options, console: Console) -> None:
    """Makes and prepares the demo corpus where it is not there yet."""
    speech = "synthetic speech and its text" if options.demo_text else "synthetic speech"
    console.line(f"Demo: {speech}, a network of {options.config.model.width}; everything goes to {folder}/")
    from emocluster_jax.api.preparation import prepare

    own = {"demo_text": options.demo_text}
    prepare("demo", folder / "corpus", folder / "records", corpus_options=own, console=console)


def _summarize(run: TrainingRun, data_dir: Path, config: TrainConfig, console: Console) -> None:
    from emocluster_jax.console import counted
    from emocluster_jax.evaluation.metrics import SELECTIONS, score_rows
    from emocluster_jax.training.metrics_log import METRICS_FILE

    progress = run.progress
    console.line()
    if math.isfinite(progress.best_value):
        title = SELECTIONS[config.select_by].title
        best = f"{progress.best_epoch} (validation {title} {progress.best_value:z.3f})"
        console.line(f"Best of {counted(progress.epoch, 'epoch')}: {best}")
    else:
        console.line(f"{counted(progress.epoch, 'epoch')}; the last one's model is kept")
    if config.stages == "unsupervised":
        console.line("Its regressor was not trained (--stages unsupervised), and scores no better than chance.")
    if run.test is not None:
        tested = "the test split" if config.fold is None else f"fold {config.fold}"
        console.line(f"Test, on {'voices that training never heard' if run.preparation.corpus == 'demo' else tested}:")
        for name, scores in score_rows(run.test.scores, run.test.alone):
            console.line(
                f"  {name}: CCC {scores.ccc:z.3f}, Pearson r {scores.pearson:z.3f}, RMSE {scores.rmse:.3f} "
                f"({scores.n} recordings)"
            )
    if run.clusters is not None:
        rows = [(name, label.ami_of_sentences, label.p_value) for name, label in run.clusters.rows]
        if rows:  # a pool may have no labels at all
            columns = ("label", "adjusted mutual information", "permutation p")
            console.table("Information shared by clusters and labels", columns, rows)
    console.line(one_line(f"Model: {run.model}   plots: {run.plots}   metrics: {run.workdir / METRICS_FILE}"))
    source, meaning = Path("recordings"), " (--input is a recording, or a folder of them)"
    inputs = config.model.inputs
    if run.preparation.corpus == "demo":  # often the only recordings that there are
        source, meaning = Path(run.preparation.source), ""
        source = source.relative_to(Path.cwd()) if source.is_relative_to(Path.cwd()) else source
        if inputs:
            source, inputs = source / "manifest.csv", ()  # which names the inputs' files
    report = ["--workdir", run.workdir, *(["--data-dir", data_dir] if run.preparation.counts.get("train") else [])]
    console.line(f"Predict with{meaning}:")
    console.command(prediction(run.model, source, inputs))
    try:
        import emocluster_jax.reporting.html  # noqa: F401

        needs = ""
    except InputError:
        needs = ' (pip install "emocluster_jax[report]")'
    console.line(f"See more of this run on a page{needs}:")
    console.command(invocation("report", *report))


if __name__ == "__main__":
    command.run(main)
