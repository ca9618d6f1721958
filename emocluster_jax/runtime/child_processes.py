"""Processes that this one starts and that do not outlive it, even where it is killed and can tell them nothing.

A child has the reading end of a pipe whose only writing end is its parent's. However the parent ends, the system closes
that end, which wakes a thread of the child's. `multiprocessing` gives its processes such a pipe; commands get it as
their stdin. Linux could send a signal instead (PR_SET_PDEATHSIG), but other systems could not, the signal goes by the
thread that started the child, and a parent that dies before the child asks for it goes unnoticed. A thread is late only
while C code of the child holds Python's lock, which compiling and computing do not.
"""

from __future__ import annotations

import multiprocessing
import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from threading import Thread

_MARK = "EMOCLUSTER_ENDS_WITH_STDIN"
_STOP_TIMEOUT_S = 20


def run_child(
    command: Sequence[str | Path],
    *,
    environment: Mapping[str, str] = os.environ,
    output: int | None = None,
    own_session: bool = False,
) -> int:
    """Runs a command that calls `end_with_parent`, and waits for it.

    It does not outlive this function either: if this is interrupted, it is terminated, and killed if it does not heed
    that within 20 s.

    Args:
      command: a program and its arguments.
      environment: the command's environment variables.
      output: a file descriptor, or `subprocess.DEVNULL`, for its stdout and stderr; None leaves them as they are here.
      own_session: keep Ctrl-C from it.

    Returns:
      Its exit status, or the number of the signal that ended it with a minus.
    """
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=output,
        stderr=output,
        env={**environment, _MARK: "1"},
        start_new_session=own_session,
    )
    try:
        return process.wait()
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(_STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        assert process.stdin is not None
        process.stdin.close()


def end_with_parent() -> None:
    """Ends this process once its parent has gone, if that started it by `run_child` or by `multiprocessing`.

    It ends on the spot, as if it were killed.
    """
    marked = os.environ.pop(_MARK, None)  # what this process starts has another stdin
    if multiprocessing.parent_process() is not None or marked:
        Thread(target=_end_after_parent, name="parent", daemon=True).start()


def _end_after_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
    else:
        os.read(0, 1)  # nothing is ever written there
    os._exit(1)
