"""Arguments of `launch.train` that another command takes and hands on to trainings of several systems."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from emocluster_jax.config import SystemName, TrainConfig
from emocluster_jax.errors import InputError
from emocluster_jax.experiment.plan import Shared
from emocluster_jax.settings import all_settings
from launch import train


def shared_by_system(
    arguments: Sequence[str],
    systems: Sequence[SystemName],
    *,
    data_dir: Path,
    workdir: Path,
    refused: Mapping[str, str],
) -> dict[SystemName, Shared]:
    """By system, what its trainings share: of the arguments, those that it has a use for.

    Ends the process where a value is not of its option's type, as `launch.train` does itself.

    Args:
      arguments: options of `launch.train` with their values.
      systems: those that will be trained.
      data_dir: records to train on.
      workdir: where the trainings' work directories will lie.
      refused: by option, without its dashes, what to do instead of giving it.

    Raises:
      InputError: an option that is refused, that none of the systems has a use for, or whose value cannot be.
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
        own = tuple(part for name, parts in options if system in users.get(name, systems) for part in parts)
        where = ["--data-dir", str(data_dir), "--workdir", str(workdir)]
        shared[system] = Shared(train.parse([*where, "--model", system, *own], "experiment").config, own)
    return shared


def _by_option(arguments: Sequence[str]) -> list[tuple[str, list[str]]]:
    """Options, by their names without dashes and `no-`, with all parts of the command line that belong to them."""
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
