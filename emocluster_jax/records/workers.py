"""Shards over worker processes."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager

from emocluster_jax.errors import InputError
from emocluster_jax.records.shards import Shard

RunShards = Callable[[Callable[[Shard], None], Iterable[Shard], Callable[[Shard], None]], None]
"""Calls a function (pickled) on every shard, and another one here, as each is done."""


@contextmanager
def shard_workers(count: int) -> Iterator[RunShards]:
    """Processes that work on shards; one worker is this process itself."""
    if count == 1:
        yield _run_here
        return
    # Spawned, since forking a process with the threads of JAX or BLAS may deadlock.
    executor = ProcessPoolExecutor(count, multiprocessing.get_context("spawn"), _start_worker)

    def run(function: Callable[[Shard], None], shards: Iterable[Shard], done: Callable[[Shard], None]) -> None:
        futures = {executor.submit(function, shard): shard for shard in shards}
        try:
            for future in as_completed(futures):
                future.result()
                done(futures[future])
        except BrokenProcessPool:
            raise InputError(
                "a worker process died, maybe for want of memory; the same command again goes on from here, "
                "perhaps with fewer --workers"
            ) from None

    try:
        yield run
    finally:
        executor.shutdown(cancel_futures=True)


def _run_here(function: Callable[[Shard], None], shards: Iterable[Shard], done: Callable[[Shard], None]) -> None:
    for shard in shards:
        function(shard)
        done(shard)


def _start_worker() -> None:
    # The parent alone answers Ctrl-C: it lets the shards in work end and keeps them.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # libmpg123 prints what it dislikes of an MP3 file; the reason goes into the list of skipped recordings instead.
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A worker whose parent was killed would wait for work forever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
