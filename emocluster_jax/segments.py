"""Long compiled loops, run a second or two at a time."""

from __future__ import annotations

import time
from collections.abc import Callable

SEGMENT_S = 1.5


def in_segments(total: int, run: Callable[[int, int], None]) -> None:
    """Calls `run(first, last)` over consecutive ranges that make up `range(total)`, each about `SEGMENT_S` long.

    Between two calls the host may show progress, heed a signal or look at results; the longer ones keep that cheap.

    Args:
      total: number of steps.
      run: runs the steps from `first` up to, but not including, `last`, and returns when they are done.
    """
    first, length = 0, 1
    while first < total:
        last = min(total, first + length)
        started = time.monotonic()
        run(first, last)
        took = max(time.monotonic() - started, 1e-6)
        length = max(1, min(4 * length, int((last - first) * SEGMENT_S / took)))
        first = last
