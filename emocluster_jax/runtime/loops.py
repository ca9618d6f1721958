"""Loops over work that takes long: a second or two of it at a time, and several items of it side by side."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from emocluster_jax.runtime import parallel

SEGMENT_S = 1.5
Item = TypeVar("Item")
Result = TypeVar("Result")


class StoppedError(Exception):
    """Work was asked to stop before it was done, and has no result."""


def in_segments(
    total: int,
    run: Callable[[int, int], None],
    *,
    first: int = 0,
    longest: int | None = None,
    together: int = 1,
    stop: Callable[[], bool] | None = None,
) -> int:
    """Calls `run(first, last)` over consecutive ranges of steps, each about `SEGMENT_S` long.

    Between two calls the host can show progress, handle a signal or look at results. All processes of a run must call
    this with the same steps, and get the same ranges.

    Args:
      run: runs the steps from `first` up to, but not including, `last`, and returns when they are done.
      longest: the most steps of a range, if there is a most.
      together: how many steps are done at the same time: ranges have a multiple of it, but for the last.
      stop: asked after each call whether to stop; must be the same on all processes.

    Returns:
      The number of steps done: `total`, unless it was stopped.
    """
    length = together
    while first < total:
        last = min(total, first + length)
        started = time.monotonic()
        run(first, last)
        took = max(time.monotonic() - started, 1e-6)
        length = min(4 * length, int((last - first) * SEGMENT_S / took), longest or total)
        length = max(1, length // together) * together
        first = last
        # The slowest process decides: with different ranges they would not launch the same programs.
        length = int(parallel.smallest(length))
        if stop is not None and stop():
            break
    return first


def in_order(
    pool: ThreadPoolExecutor, function: Callable[[Item], Result], items: Iterable[Item], ahead: int
) -> Iterator[Result]:
    """`function` of each item, in order, at most `ahead` items ahead of the one that is asked for."""
    waiting: deque[Future[Result]] = deque()
    for item in items:
        waiting.append(pool.submit(function, item))
        if len(waiting) > ahead:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()
