"""`python -m launch.experiment`: the paper's tables and figures, or a table over folds, with one command."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from emocluster_jax.api.requests import FitSettings
from emocluster_jax.config import CLUSTERS, RECORDINGS, SystemName, TrainConfig, presets
from emocluster_jax.errors import InputError, one_line
from emocluster_jax.ranges import Range, within
from emocluster_jax.runtime.processes import Processes
from emocluster_jax.settings import Checked, all_settings
from emocluster_jax.storage.disk import check_output_folder
from launch import command, train
from launch.options import arguments_for, invocation, parse, words_of_options

if TYPE_CHECKING:
    from emocluster_jax.console import Console
    from emocluster_jax.experiment.grid import Plan, Run

DESCRIPTION = """Train every system of the paper's tables and figures, several trials each, and write the tables beside
the published figures; or, on records with folds, two systems on each fold; or one system without each part of its
recipe. Runs that are complete are skipped, others are begun or resumed: the same command continues where it was
stopped. All options of launch.train that are not listed here, such as --epochs or --batch-size, are passed on to every
run; by default these use the preset `paper`, those of the ablation `modern`."""

# Options of launch.train that cannot be passed on, with the reason or what to give instead.
_DECIDED = {
    "model": "--preset decides on the systems",
    "stages": "--preset decides on the stages",
    "unlabeled-size": "give --unlabeled-sizes",
    "fold": "--preset folds tests on every fold",
    "seed": "give --trials; their seeds count from 0",
    "resume": "runs are always resumed",
    **dict.fromkeys(
        ("coordinator", "num-processes", "process-id"), "a run is one process; --shard gives each its own runs"
    ),
}


PresetName = Literal["table1", "table2", "figure2", "figure3", "all", "temporal", "clusters", "folds", "ablation"]


@dataclass(frozen=True)
class Options(Checked):
    """What to run, and where."""

    preset: tuple[PresetName, ...]
    """Tables and figures of the paper, or `all` of them; temporal: DeepEmoCluster and the systems that look across the
    chunks of a recording; and clusters: which of several numbers of clusters the validation split recommends. Runs that
    several of them share are trained once. Or folds, alone: the CNN-regressor and DeepEmoCluster on every fold of
    records that were prepared with --folds. Or ablation, alone: DeepEmoCluster by launch.train's preset `modern` and
    without each of its parts, and the CNN-regressor by the same preset."""
    data_dir: Path
    """Records that launch.prepare wrote."""
    workdir: Path
    """Takes a work directory for each run, results.csv, tables and figures."""
    trials: int = field(default=5, metadata=within(Range(int, 1, 10_000)))
    """Trainings of each setting (on each fold), with seeds from 0."""
    attributes: tuple[str, ...] | None = None
    """Each has runs of its own. [default: those that the training split has labels for]"""
    clusters: tuple[int, ...] = field(default=(10, 20, 30), metadata=within(CLUSTERS))
    """K of Table 2, of temporal and of clusters; the others use the first one."""
    unlabeled_sizes: tuple[int, ...] | None = field(default=None, metadata=within(RECORDINGS))
    """Recordings of the unlabelled pool, for Figure 2; the others use the largest, and temporal none as well. [default:
    0, 15000 and 40000, or the same shares of a smaller pool]"""
    shard: str = "1/1"
    """I/N: run only the share of machine I of N machines that are given the same options."""
    list: bool = False
    """Show what would be run and how far each run is, and run nothing."""
    tables_only: bool = False
    """Write tables and figures from the runs that are complete, and run nothing."""
    quiet: bool = False
    """Print only warnings and errors."""
    passed_on: tuple[str, ...] = field(default=(), metadata={"option": None})
    """Options of launch.train with their values."""


def main() -> None:
    example = "--preset all --data-dir data --workdir experiment --trials 5 --epochs 50"
    options = parse(Options, "experiment", DESCRIPTION, example, others=train.Options)
    number, count = _shard(options.shard)
    if not options.list:
        check_output_folder("--workdir", options.workdir)

    from emocluster_jax.corpora.speaker_split import shared_speakers_warning
    from emocluster_jax.experiment.grid import TABLES, Plan, TableName, grid_for_data, shard
    from emocluster_jax.experiment.runner import run_all
    from emocluster_jax.records.preparation import read_preparation

    # A grid takes hours: where stderr is a file, a line a minute is enough.
    console = command.console(quiet=options.quiet, interval_s=60.0)
    data_dir = options.data_dir
    preparation = read_preparation(data_dir)
    asked = {*options.preset, *(TABLES if "all" in options.preset else ())}
    grid = grid_for_data(
        data_dir,
        preparation,
        tables=tuple(table for table in get_args(TableName) if table in asked),
        attributes=options.attributes,
        clusters=options.clusters,
        unlabeled_sizes=options.unlabeled_sizes,
        trials=options.trials,
    )
    if grid.unlabeled_sizes == (0,) and not {*grid.tables} <= {"table1", "temporal", "folds"}:
        also = ", also those of Table 2, Figures 2 and 3" if {*grid.tables} & {"table2", "figure2", "figure3"} else ""
        console.warn(f"without unlabelled recordings all runs are supervised{also}")
    if preparation.shared_speakers:
        console.warn(shared_speakers_warning(preparation.shared_speakers))  # the runs only say it in their logs
    shared = options_by_system(options, list(dict.fromkeys(run.setting.model for run in grid.runs)))
    configs: dict[SystemName, TrainConfig] = {system: own.config for system, own in shared.items()}
    plan = Plan(grid, configs, data_dir, preparation.fingerprints, options.workdir)
    for run in grid.runs:
        plan.config(run)  # raises what is wrong with any of them
    runs = shard(grid.runs, number, count)
    if options.list:
        _list(plan, runs, options.shard, console)
        return
    failed = []
    if not options.tables_only:
        try:
            failed = run_all(plan, runs, partial(command_for, plan, shared), console)
        except KeyboardInterrupt:
            console.warn(
                "stopped; the same command goes on from here, and --tables-only writes tables of finished runs"
            )
            raise
    _report(plan, preparation.corpus, options.passed_on, console)
    if failed:
        logs = ", ".join(map(str, failed))
        raise InputError(f"{len(failed)} of {len(runs)} runs failed; see {logs}; the same command tries them again")


def _shard(text: str) -> tuple[int, int]:
    match = re.fullmatch("([0-9]{1,9})/([0-9]{1,9})", text)
    number, count = map(int, match.groups()) if match else (0, 0)
    if not 1 <= number <= count:
        raise InputError(f"--shard is {text}; expected I/N with I from 1 to N, such as 2/4")
    return number, count


def options_by_system(options: Options, systems: Sequence[SystemName]) -> dict[SystemName, train.Options]:
    """By system, the options that its trainings share: those passed on that the system uses.

    Ends the process where a value is not of its option's type, as `launch.train` itself does.

    Raises:
      InputError: an option is refused or used by none of the systems, or its value is wrong.
    """
    users = {setting.option: setting.systems for setting in all_settings(TrainConfig) if setting.systems}
    given = [(name.removeprefix("no-"), words) for name, words in words_of_options(options.passed_on)]
    for name, _ in given:
        if name in _DECIDED:
            raise InputError(f"--{name} cannot be given here: {_DECIDED[name]}")
        if name in users and not set(users[name]) & set(systems):
            raise InputError(
                f"--{name} belongs to --model {', '.join(users[name])}, which is not trained here; leave it out"
            )
    where = ["--data-dir", str(options.data_dir), "--workdir", str(options.workdir)]
    if "ablation" in options.preset:
        where += ["--preset", "modern"]
    shared = {}
    for system in systems:
        own = [word for name, words in given if system in users.get(name, systems) for word in words]
        shared[system] = train.parse([*where, "--model", system, *own], "experiment")
    return shared


def command_for(plan: Plan, shared: Mapping[SystemName, train.Options], run: Run) -> list[str]:
    """The command line that trains a run of an experiment, or resumes it."""
    options = replace(
        shared[run.setting.model],
        workdir=plan.folder(run),
        config=plan.config(run),
        running=FitSettings(resume=True, feed=shared[run.setting.model].running.feed),
        # Where Slurm or the like started the shards of an experiment, their trainings must not join one another.
        processes=Processes(num_processes=1),
        # The settings are given one by one.
        preset=None,
        config_file=None,
    )
    given = arguments_for(options, train.Options(config=presets["paper"]))
    # Named, as a resumed run's own settings would be the defaults otherwise.
    return [sys.executable, "-m", "launch.train", "--preset", "paper", *given]


def _list(plan: Plan, runs: tuple[Run, ...], shard: str, console: Console) -> None:
    from emocluster_jax.experiment.completed import epochs_done, is_complete

    rows, complete = [], 0
    for run in runs:
        done, ended = epochs_done(plan, run), is_complete(plan, run)
        complete += ended
        state = "complete" if ended else (f"{done} of {plan.config(run).epochs} epochs" if done else "to do")
        rows.append((run.name, state))
    console.table(f"Runs in {plan.workdir / 'runs'}", ("run", "state"), rows)
    of = "" if shard == "1/1" else f" of shard {shard}"
    console.line(f"{len(runs)} runs{of}, {complete} complete")


def _report(plan: Plan, corpus: str, passed_on: Sequence[str], console: Console) -> None:
    """Writes the tables and shows them, and how to train what they recommend."""
    from emocluster_jax.experiment.collect import FIGURES, RESULTS, TABLES, collect

    collected = collect(plan, corpus, console)
    for table in collected.tables:
        console.line()
        console.table(table.title, table.header, table.rows)
        for note in table.notes:
            console.line(note)
    console.line()
    if collected.missing:
        console.line(f"{collected.missing} of the grid's runs are missing; --list names them")
    workdir = plan.workdir
    for attribute, clusters in collected.clusters.items():
        console.line(f"Train {attribute} with the recommended {clusters} clusters by")
        where = ("--data-dir", plan.data_dir, "--workdir", workdir / f"{attribute}-{clusters}-clusters")
        chosen = ("--attributes", attribute, "--clusters", clusters, "--unlabeled-size", plan.grid.unlabeled_sizes[-1])
        console.command(invocation("train", *where, "--preset", "paper", *chosen, *passed_on))
    console.line(one_line(f"Results: {workdir / RESULTS}   tables: {workdir / TABLES}   figures: {workdir / FIGURES}"))


if __name__ == "__main__":
    command.run(main)
