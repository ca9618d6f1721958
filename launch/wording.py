"""The library speaks of settings and functions, and the commands of options and commands.

In messages and help texts the library names a setting as `` `clusters` ``, with a value as `` `fold=2` ``, and a
function as `` `prepare()` ``; a command prints `--clusters`, `--fold 2` and `python -m launch.prepare`.
"""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from emocluster_jax.settings import all_settings
from launch import COMMANDS

_FUNCTIONS = {"prepare": "prepare", "fit": "train", "evaluate": "evaluate", "predict": "predict"}
_NAMED = re.compile(r"`([a-z][a-z0-9_]*)(?:\(\)|=([^`]*))?`")
_spoken_of: list[type[Any]] = []


def invocation(name: str) -> str:
    """What the person types to start a command: by the console script, if that is what started this process."""
    return f"emocluster {name}" if Path(sys.argv[0]).name == "emocluster" else f"python -m launch.{name}"


def speak_of(options: Sequence[type[Any]]) -> None:
    """Says which dataclasses of settings the command that runs has read, for `as_options`."""
    _spoken_of[:] = options


def as_options(text: str) -> str:
    """The text with options and commands in place of the settings and functions that it names.

    A setting that several commands have under different names is that of the command that runs.
    """

    def spelt(match: re.Match[str]) -> str:
        name, value = match.groups()
        if match[0].endswith("()`"):
            return invocation(_FUNCTIONS[name]) if name in _FUNCTIONS else match[0]
        option = next((s.option for cls in _classes() for s in all_settings(cls) if s.name == name and s.option), None)
        return match[0] if option is None else f"--{option}" if value is None else f"--{option} {value}"

    return _NAMED.sub(spelt, text)


def _classes() -> Iterator[type[Any]]:
    yield from _spoken_of
    for command in COMMANDS:
        yield importlib.import_module(f"launch.{command}").Options
