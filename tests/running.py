"""Commands as a person types them, in this process."""

from __future__ import annotations

from types import ModuleType

import pytest

from emocluster_jax.errors import InputError
from launch.options import as_options


def call(command: ModuleType, *arguments: str) -> None:
    """Runs a module of `launch` with these arguments; what is wrong is raised in the command's words."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", [command.__name__, *arguments])
        try:
            command.main()
        except InputError as error:
            raise InputError(as_options(str(error))) from None
