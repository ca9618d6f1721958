"""Long compiled loops, run a second or two at a time."""

from __future__ import annotations

import time
from collections.abc import Callable

from emocluster_jax.runtime import parallel

SEGMENT_S = 1.5


class StoppedError(Exception):
    """Work was left half-done because it was asked to stop; what it was to give is not there."""


def in_segments(
    total: int, run: Callable[[int, int], None], *, first: int = 0, stop: Callable[[], bool] | None = None
) -> int:
    """Calls `run(first, last)` over consecutive ranges that make up the steps to `total`, each about `SEGMENT_S` long.

    Between two calls the host may show progress, heed a signal or look at results; the longer ones keep that cheap.
    Where there are several processes, all must come here with the same steps, and their ranges are the same.

    Args:
      total: number of steps.
      run: runs the steps from `first` up to, but not including, `last`, and returns when they are done.
      first: steps that were done before.
      stop: asked after each call whether to leave it at that. Where there are several processes, all must give the
        same answer.

    Returns:
      The steps that are done: `total`, unless it was stopped.
    """
    length = 1
    while first < total:
        last = min(total, first + length)
        started = time.monotonic()
        run(first, last)
        took = max(time.monotonic() - started, 1e-6)
        length = max(1, min(4 * length, int((last - first) * SEGMENT_S / took)))
        first = last
        # By the slowest one's clock: with other ranges the processes would not launch the same programs.
        length = int(parallel.smallest(length))
        if stop is not None and stop():
            break
    return first
