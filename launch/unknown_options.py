"""Options that a command does not have, with the one that may have been meant.

tyro suggests an option only where nothing else is wrong; a misspelt required option is missing as well.
"""

from __future__ import annotations

import dataclasses
import difflib
import typing
from collections.abc import Iterator, Sequence
from typing import Any

from emocluster_jax.errors import InputError
from emocluster_jax.ranges import option_name


def check_known(arguments: Sequence[str], options: Sequence[type[Any]], prog: str) -> None:
    """Raises InputError for the first option that is of none of these dataclasses, unless help is asked for."""
    if {"-h", "--help"} & set(arguments):
        return
    known = ["help", *(name for cls in options for name in option_names(cls))]
    for argument in arguments:
        name = argument[2:].split("=")[0].replace("_", "-")
        # tyro has options of its own, for shells that complete commands.
        if argument.startswith("--") and name not in known and not name.startswith("tyro-"):
            nearest = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
            hint = f"did you mean --{nearest[0]}?" if nearest else f"{prog} --help lists them"
            raise InputError(f"there is no option --{name}; {hint}")


def option_names(options: type[Any]) -> Iterator[str]:
    """Names, without their dashes, of the options that `command.parse` makes of a dataclass."""
    hints = typing.get_type_hints(options)
    for field in dataclasses.fields(options):
        name = option_name(field)
        if dataclasses.is_dataclass(hint := hints[field.name]):
            yield from option_names(typing.cast("type[Any]", hint))
        else:
            yield name
            if hint is bool:
                yield f"no-{name}"
