"""Child processes that do not outlive this one, even if it is killed.

The parent alone holds the writing end of a pipe that the child reads. However the parent ends, the system closes that
end, which wakes a thread of the child. `multiprocessing` gives its processes such a pipe; commands get it as stdin.
Linux's PR_SET_PDEATHSIG would not do: it follows the thread that started the child, and misses a parent that dies
before the child asks for it.
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
    """Runs a command that calls `end_with_parent`, and returns its exit status, negative if a signal ended it.

    If this function is interrupted, the command is terminated, and killed if it is still running after 20 s.

    Args:
      output: a file descriptor, or `subprocess.DEVNULL`, for its stdout and stderr; None shares those of this process.
      own_session: keep Ctrl-C from it.
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
    """Ends this process at once when its parent, which started it by `run_child` or `multiprocessing`, has gone."""
    marked = os.environ.pop(_MARK, None)  # children of this process have another stdin
    if multiprocessing.parent_process() is not None or marked:
        Thread(target=_end_after_parent, name="parent", daemon=True).start()


def _end_after_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
    else:
        os.read(0, 1)  # nothing is ever written there
    os._exit(1)
