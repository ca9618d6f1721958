"""Pairs of processes that meet, or do not, and how they end; started by test_several_processes.py.

python meeting_worker.py FOLDER PLOT@COORDINATOR@PROCESS_IDS ...

All pairs live at the same time. Prints their exit statuses as JSON, in their order; what they print is in FOLDER.
"""

from __future__ import annotations

import json
import sys
import time
from functools import partial
from pathlib import Path
from types import SimpleNamespace

from forked import fork, statuses

from emocluster_jax.errors import InputError
from emocluster_jax.runtime import loops as segments
from emocluster_jax.runtime import parallel
from emocluster_jax.runtime.processes import Processes
from launch import command


def meet(plot: str, coordinator: str, process_id: int) -> None:
    parallel.start_processes(Processes(coordinator, 2, process_id), longest_s=2 if "alone" in plot else 60)
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
    folder, pids = Path(sys.argv[1]), []
    for pair, (plot, coordinator, ids) in enumerate(argument.split("@") for argument in sys.argv[2:]):
        for i in ids:
            meeting = partial(command.run, partial(meet, plot, coordinator, int(i)))
            pids.append(fork(meeting, folder / f"{pair}-{i}"))
    print(json.dumps(statuses(pids)))
