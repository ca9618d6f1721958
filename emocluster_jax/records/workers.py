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
from dataclasses import dataclass

from emocluster_jax.errors import InputError
from emocluster_jax.records.shards import Shard


@dataclass(frozen=True)
class ShardPass:
    """What is done with every shard in one pass, and whether it has been done with one; both are pickled."""

    work: Callable[[Shard], None]
    is_done: Callable[[Shard], bool]


RunShards = Callable[[ShardPass, Iterable[Shard], Callable[[Shard], None]], None]
"""Does a pass's work on every shard, and calls a function here as each is done."""


@contextmanager
def shard_workers(count: int) -> Iterator[RunShards]:
    """Processes that work on shards; one worker is this process itself."""
    if count == 1:
        yield _run_here
        return
    # Spawned, since forking a process with the threads of JAX or BLAS may deadlock.
    executor = ProcessPoolExecutor(count, multiprocessing.get_context("spawn"), _start_worker)

    def run(shard_pass: ShardPass, shards: Iterable[Shard], done: Callable[[Shard], None]) -> None:
        futures = {executor.submit(shard_pass.work, shard): shard for shard in shards}
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


def _run_here(shard_pass: ShardPass, shards: Iterable[Shard], done: Callable[[Shard], None]) -> None:
    for shard in shards:
        shard_pass.work(shard)
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
