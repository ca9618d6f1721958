"""Children end with the process that started them, however that ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

DEADLINE_S = 60

CHILD = """
import os, sys, time
from emocluster_jax.runtime.child_processes import end_with_parent
end_with_parent()
print("ready", [name for name in os.environ if "STDIN" in name], flush=True)
"""
SLEEPS = f"{CHILD}time.sleep(600)"
COMPUTES = f"{CHILD}import numpy\na = numpy.ones((400, 400))\nwhile True: a = a @ a / 400"

BY_COMMAND = """
import sys
from emocluster_jax.runtime.child_processes import run_child
run_child([sys.executable, "-c", sys.argv[1]])
"""
BY_MULTIPROCESSING = """
import multiprocessing
from emocluster_jax.runtime.child_processes import end_with_parent
if __name__ == "__main__":
    with multiprocessing.get_context("spawn").Pool(1, end_with_parent) as pool:
        pool.apply(exec, (sys.argv[1],))
"""


def started(parent: str, child: str) -> subprocess.Popen[str]:
    """A parent whose child is ready. Its stdout is the child's too, and ends when both have."""
    command = [sys.executable, "-c", f"import sys\n{parent}", child]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready []\n", process.communicate(timeout=DEADLINE_S)
    return process


@pytest.mark.parametrize("child", [SLEEPS, COMPUTES], ids=["sleeps", "computes"])
@pytest.mark.parametrize("parent", [BY_COMMAND, BY_MULTIPROCESSING], ids=["command", "multiprocessing"])
def test_a_child_ends_with_a_parent_that_is_killed(parent: str, child: str) -> None:
    process = started(parent, child)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=DEADLINE_S)


def test_a_child_does_not_outlive_an_interrupted_call() -> None:
    interruptible = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
    process = started(interruptible + BY_COMMAND, SLEEPS)
    os.kill(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == -signal.SIGINT and "KeyboardInterrupt" in errors


def test_how_a_child_ended() -> None:
    code = """
import os, signal
from emocluster_jax.runtime.child_processes import run_child
print([run_child([sys.executable, "-c", end]) for end in (
    "raise SystemExit(7)", "import os; os.kill(os.getpid(), 9)", "import sys; sys.stdin.close()"
)])
"""
    command = [sys.executable, "-c", f"import sys\n{code}"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S)
    assert result.stdout == "[7, -9, 0]\n", result.stderr
