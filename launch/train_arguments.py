"""Options of `launch.train` that another command takes and passes on to trainings of several systems."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from emocluster_jax.api.requests import FitSettings
from emocluster_jax.config import PRESETS, SystemName, TrainConfig
from emocluster_jax.errors import InputError
from emocluster_jax.experiment.grid import Run
from emocluster_jax.experiment.plan import Plan
from emocluster_jax.runtime.processes import Processes
from emocluster_jax.settings import all_settings
from launch import train
from launch.options import arguments_for


def options_by_system(
    arguments: Sequence[str],
    systems: Sequence[SystemName],
    *,
    data_dir: Path,
    workdir: Path,
    refused: Mapping[str, str],
) -> dict[SystemName, train.Options]:
    """By system, the options that its trainings share: those of the arguments that the system uses.

    Ends the process where a value is not of its option's type, as `launch.train` itself does.

    Args:
      arguments: options of `launch.train` with their values.
      systems: those that will be trained.
      data_dir: records to train on.
      workdir: takes the trainings' work directories.
      refused: by option, without its dashes, what to do instead of giving it.

    Raises:
      InputError: an option is refused or used by none of the systems, or its value is wrong.
    """
    users = {setting.option: setting.systems for setting in all_settings(TrainConfig) if setting.systems}
    options = _by_option(arguments)
    for name, _ in options:
        if name in refused:
            raise InputError(f"--{name} cannot be given here: {refused[name]}")
        if name in users and not set(users[name]) & set(systems):
            raise InputError(
                f"--{name} belongs to --model {', '.join(users[name])}, which is not trained here; leave it out"
            )
    shared = {}
    for system in systems:
        own = [part for name, parts in options if system in users.get(name, systems) for part in parts]
        where = ["--data-dir", str(data_dir), "--workdir", str(workdir)]
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
    given = arguments_for(options, train.Options(config=PRESETS["paper"]))
    return [sys.executable, "-m", "launch.train", *given]


def _by_option(arguments: Sequence[str]) -> list[tuple[str, list[str]]]:
    """Names of options, without dashes and `no-`, each with the parts of the command line that belong to it."""
    found: list[tuple[str, list[str]]] = []
    for argument in arguments:
        if argument.startswith("--"):
            name = argument[2:].split("=")[0].replace("_", "-").removeprefix("no-")
            found.append((name, [argument]))
        elif found:
            found[-1][1].append(argument)
        else:
            found.append(("", [argument]))
    return found
