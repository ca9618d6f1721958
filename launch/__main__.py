"""`emocluster COMMAND`, or `python -m launch COMMAND`: all commands under one name."""

from __future__ import annotations

import difflib
import importlib
import sys

from emocluster_jax.errors import InputError
from launch import COMMANDS
from launch.command import run


def main() -> None:
    run(_main)


def _main() -> None:
    name = sys.argv[1] if len(sys.argv) > 1 else "--help"
    if name in ("-h", "--help"):
        start = "python -m launch" if sys.argv[0].endswith("__main__.py") else "emocluster"
        print(f"usage: {start} COMMAND [OPTIONS]\n")
        print("\n".join(f"  {command:14}{what}" for command, what in COMMANDS.items()))
        print(f"\nEach has its own help: {start} train --help")
        return
    if name not in COMMANDS:
        nearest = difflib.get_close_matches(name, COMMANDS, n=1)
        hint = f"; did you mean {nearest[0]}?" if nearest else f"; there are {', '.join(COMMANDS)}"
        raise InputError(f"there is no command {name!r}{hint}")
    del sys.argv[1]
    importlib.import_module(f"launch.{name}").main()


if __name__ == "__main__":
    main()
