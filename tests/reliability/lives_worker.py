"""Runs commands in children that it forks, so that each starts in no time: all imports are done; see lives.py.

Reads requests from stdin and writes events to stdout, one JSON object a line. A command's events are the changes that
Python's own functions make to files below a folder, and what the command says it is doing; one of them may be fatal.
"""

from __future__ import annotations

import faulthandler
import itertools
import json
import os
import signal
import sys
import threading
import warnings
from pathlib import Path
from typing import Any

import matplotlib.figure  # noqa: F401
import sklearn.metrics  # noqa: F401
import tensorboardX  # noqa: F401

from emocluster_jax.console import Task
from emocluster_jax.evaluation import evaluate as _evaluation  # noqa: F401
from emocluster_jax.feed import from_records  # noqa: F401
from emocluster_jax.inference import predictor, recordings  # noqa: F401
from emocluster_jax.records import builder, reader, shard_work, writer  # noqa: F401
from emocluster_jax.reporting import plots  # noqa: F401
from emocluster_jax.training import loop, workdir  # noqa: F401
from launch import command, predict, prepare, train

COMMANDS = {"prepare": prepare, "train": train, "predict": predict}
FOR_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
CHANGES = ("os.mkdir", "os.rename", "os.remove", "os.rmdir")


class Watch:
    """Counts a command's events; at the fatal one it runs a shell command, tells stdout, and kills this process."""

    def __init__(self, request: dict[str, Any]) -> None:
        self._folder = request["folder"] + os.sep
        self._at, self._self_kill, self._shell = request["at"], request["self_kill"], request["shell"]
        self._counter = itertools.count(1)
        self._lock = threading.Lock()
        self.count = 0

    def audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        """A hook (PEP 578) that hears of a change before it happens."""
        if event in CHANGES or (event == "open" and isinstance(arguments[2], int) and arguments[2] & FOR_WRITING):
            path = os.fsdecode(arguments[0]) if isinstance(arguments[0], str | bytes | os.PathLike) else ""
            if path.startswith(self._folder):
                to = f" -> {arguments[1]}" if event == "os.rename" else ""
                self.hear(f"{event} {path.removeprefix(self._folder)}{to}".replace(self._folder, ""))

    def hear(self, what: str) -> None:
        with self._lock:
            self.count = next(self._counter)
            fatal = self.count == self._at or (isinstance(self._at, str) and self._at in what)
            if not fatal:
                return
            self._at = None
            tell(event=what)
            if self._shell:
                os.system(self._shell)
            if self._self_kill:
                os.kill(os.getpid(), signal.SIGKILL)


def tell(**values: Any) -> None:
    os.write(PIPE, (json.dumps(values) + "\n").encode())


def live(request: dict[str, Any]) -> None:
    """The child: never returns."""
    output = os.open(request["output"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(output, 1)
    os.dup2(output, 2)
    faulthandler.enable()
    # The shell that started the tests in the background may have had the interrupt ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    watch = Watch(request)
    sys.addaudithook(watch.audit)
    describe, advance = Task.describe, Task.advance

    def described(task: Task, text: str) -> None:
        describe(task, text)
        watch.hear(f"{task.description}: {text}")

    def advanced(task: Task, n: int = 1, cost: float = 1.0) -> None:
        advance(task, n, cost)
        watch.hear(f"{task.title}: {n} more")

    Task.describe, Task.advance = described, advanced
    name, *sys.argv[1:] = request["command"]
    status = 0
    try:
        command.run(COMMANDS[name].main)
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 1
    except BaseException:
        sys.excepthook(*sys.exc_info())
        status = 1
    sys.stdout.flush()
    sys.stderr.flush()
    tell(count=watch.count)
    os._exit(status)


if __name__ == "__main__":
    # Standard output is for the events alone, whatever a library prints.
    PIPE = os.dup(1)
    os.dup2(2, 1)
    warnings.filterwarnings("ignore", "os.fork", RuntimeWarning)  # JAX has no threads yet: no backend was asked for
    tell(ready=threading.active_count())
    for line in sys.stdin:
        request = json.loads(line)
        if (pid := os.fork()) == 0:
            live(request)
        tell(pid=pid)
        _, status = os.waitpid(pid, 0)
        tell(status=os.waitstatus_to_exitcode(status), output=Path(request["output"]).read_text())
