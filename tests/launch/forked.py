"""Processes that share the time for imports: each is forked from one that has done them all, before JAX has threads."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path


def fork(function: Callable[[], object], output: Path) -> int:
    """Calls a function in a child, which then ends as a program does; returns the child's number.

    Its stdout goes to `output`, its stderr to the same with ".err" added.
    """
    warnings.filterwarnings("ignore", "os.fork", RuntimeWarning)
    pid = os.fork()
    if pid == 0:
        for descriptor, path in ((1, output), (2, output.with_name(f"{output.name}.err"))):
            os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), descriptor)
        function()
        sys.exit()
    return pid


def statuses(pids: Sequence[int]) -> list[int]:
    """How children ended: exit status, or a signal's number with a minus."""
    return [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]
