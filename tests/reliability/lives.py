"""Lives of the commands: each runs in a process of its own until it is done, or until something befalls it."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from compile_flags import COMPILE_SOONER

TESTS = Path(__file__).resolve().parent.parent
DEADLINE_S = 120.0
ENVIRONMENT = os.environ | {
    "JAX_PLATFORMS": "cpu",
    "PYTHONPATH": os.pathsep.join(map(str, (TESTS.parent, TESTS))),
    "XLA_FLAGS": f"{COMPILE_SOONER} --xla_backend_optimization_level=0",
}


@dataclass(frozen=True)
class Blow:
    """What befalls a command, and when.

    Attributes:
      at: the event that it follows (see lives_worker.py), by its number in this life or as a part of its text.
      delay_s: how long after it.
      signal: what is sent. SIGKILL without a delay strikes before the change that the event announces; 0 is nothing.
      shell: a command that is run, while the struck command's thread waits.
      again_s: the signal is sent once more after so many seconds.
    """

    at: int | str
    delay_s: float = 0.0
    signal: int = signal.SIGKILL
    shell: str = ""
    again_s: float | None = None


@dataclass(frozen=True)
class Life:
    """How a command ended: its exit status (a signal's number with a minus), what it printed, and what was its fate.

    `events` counts what it did; None if it was killed. `struck` is the event that the blow followed.
    """

    status: int
    output: str
    events: int | None
    struck: str | None


class Lives:
    """Talks to lives_worker.py."""

    def __init__(self, process: subprocess.Popen[bytes], folder: Path) -> None:
        self._process = process
        self._output = folder / "output.txt"
        self._buffer = b""
        assert "ready" in self._hear()

    def live(self, command: Sequence[object], folder: Path, blow: Blow | None = None) -> Life:
        """Runs `command`, whose events are what it changes below `folder` and says of its progress.

        One of which nothing is heard for `DEADLINE_S` is aborted; its output then says where its threads stood.
        """
        self_kill = blow is not None and blow.signal == signal.SIGKILL and not blow.delay_s
        request = {
            "command": [str(part) for part in command],
            "folder": str(folder),
            "at": None if blow is None else blow.at,
            "self_kill": self_kill,
            "shell": "" if blow is None else blow.shell,
            "output": str(self._output),
        }
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(request).encode() + b"\n")
        self._process.stdin.flush()
        told: dict[str, Any] = {}
        while "status" not in told:
            # The worker and its child write to one pipe: the event may come before the child's number.
            if not self._is_heard():
                self._send(told["pid"], signal.SIGABRT)
            told |= self._hear()
            if blow is not None and not self_kill and {"event", "pid"} <= told.keys() and "struck" not in told:
                told["struck"] = told["event"]
                time.sleep(blow.delay_s)
                self._send(told["pid"], blow.signal)
                if blow.again_s is not None:
                    time.sleep(blow.again_s)
                    self._send(told["pid"], blow.signal)
        return Life(told["status"], told["output"], told.get("count"), told.get("event"))

    def _send(self, pid: int, number: int) -> None:
        # The worker waits for its child before it tells of its end, so the number may be nobody's, but no one else's.
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            return

    def _is_heard(self) -> bool:
        return b"\n" in self._buffer or bool(select.select([self._process.stdout], [], [], DEADLINE_S)[0])

    def _hear(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        while b"\n" not in self._buffer:
            read = os.read(self._process.stdout.fileno(), 65536)
            assert read, "the worker has died"
            self._buffer += read
        line, self._buffer = self._buffer.split(b"\n", 1)
        return json.loads(line)


@contextmanager
def living(folder: Path) -> Iterator[Lives]:
    """Starts the worker, which needs some seconds for its imports."""
    worker = [sys.executable, str(Path(__file__).with_name("lives_worker.py"))]
    with subprocess.Popen(worker, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=ENVIRONMENT) as process:
        try:
            yield Lives(process, folder)
        finally:
            process.kill()
