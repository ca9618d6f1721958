"""Commands as a person types them, in this process."""

from __future__ import annotations

from types import ModuleType

import pytest


def call(command: ModuleType, *arguments: str) -> None:
    """Runs a module of `launch` with these arguments."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", [command.__name__, *arguments])
        command.main()
