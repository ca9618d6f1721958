"""One of two processes that meet, or do not, and how it ends; started by test_several_processes.py.

python meeting_worker.py PLOT COORDINATOR PROCESS_ID
"""

from __future__ import annotations

import sys
import time
from types import SimpleNamespace

from emocluster_jax.errors import InputError
from emocluster_jax.runtime import loops as segments
from emocluster_jax.runtime import parallel
from emocluster_jax.runtime.processes import Processes
from launch import command


def main() -> None:
    plot, coordinator, process_id = sys.argv[1], sys.argv[2], int(sys.argv[3])
    parallel.start_processes(Processes(coordinator, 2, process_id), longest_s=2 if plot == "alone" else 60)
    with parallel.all_or_none():
        if plot == "one fails" and process_id == 1:
            raise InputError("file X is damaged; restore it")
    if plot == "all fail":
        raise InputError("the loss is NaN; lower the learning rates")
    if plot == "one fails later" and process_id == 1:
        raise InputError("file X is gone; restore it")
    if plot == "different clocks":
        if process_id == 1:  # on which everything takes long
            vars(segments)["time"] = SimpleNamespace(monotonic=lambda: 1e6 * time.monotonic())
        for stop in (None, lambda: False):
            segments.in_segments(50, lambda first, last: print(first, last, file=sys.stderr), stop=stop)
    parallel.wait_for_all("the end")


if __name__ == "__main__":
    command.run(main)
