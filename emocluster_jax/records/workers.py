"""Shards on worker processes."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from ctypes import c_bool
from typing import NamedTuple

from emocluster_jax.errors import InputError
from emocluster_jax.records.crashes import Examined
from emocluster_jax.records.shards import Shard
from emocluster_jax.runtime.child_processes import end_with_parent


class ShardPass(NamedTuple):
    """What is done with every shard in one pass, whether it has been done, and `crashes.examine`; all are pickled."""

    work: Callable[[Shard], None]
    is_done: Callable[[Shard], bool]
    examine: Callable[[Sequence[Shard]], Examined]


RunShards = Callable[[ShardPass, Iterable[Shard], Callable[[Shard], None]], None]
"""Does a pass's work on every shard, and calls a function in this process as each is done."""


@contextmanager
def shard_workers(count: int) -> Iterator[RunShards]:
    """Processes that work on shards; one worker is this process itself."""
    if count == 1:
        yield _run_here
        return
    # Without a lock, which a process could take to its death.
    any_started = multiprocessing.RawValue(c_bool, False)
    executor = _executor(count, any_started)

    def run(shard_pass: ShardPass, shards: Iterable[Shard], done: Callable[[Shard], None]) -> None:
        nonlocal executor
        waiting = {shard.name: shard for shard in shards}
        while waiting:
            try:
                futures = {executor.submit(shard_pass.work, shard): name for name, shard in waiting.items()}
                for future in as_completed(futures):
                    future.result()
                    done(waiting.pop(futures[future]))
            except BrokenProcessPool:
                executor.shutdown()
                if not any_started.value:
                    # Each imports the main script first, and so repeats all that is not below this line.
                    raise InputError(
                        'no worker process started; a script must prepare data below `if __name__ == "__main__":`, or '
                        "with `workers=1`, and where memory is short, fewer `workers` need less"
                    ) from None
                for name in [name for name, shard in waiting.items() if shard_pass.is_done(shard)]:
                    done(waiting.pop(name))
                examined = shard_pass.examine(list(waiting.values()))
                if not examined.crashing:
                    sound = " or ".join(map(repr, examined.sound))
                    raise InputError(
                        f"a worker process died{sound and f' while it decoded {sound}'}, maybe for want of memory; the "
                        "same command again goes on from here, perhaps with fewer `workers`"
                    ) from None
                executor = _executor(count, any_started)

    try:
        yield run
    finally:
        executor.shutdown(cancel_futures=True)


def _executor(count: int, any_started: c_bool) -> ProcessPoolExecutor:
    # Spawned, since forking a process with the threads of JAX or BLAS may deadlock.
    return ProcessPoolExecutor(count, multiprocessing.get_context("spawn"), _start_worker, (any_started,))


def _run_here(shard_pass: ShardPass, shards: Iterable[Shard], done: Callable[[Shard], None]) -> None:
    shards = list(shards)
    shard_pass.examine(shards)  # it may have been this very process that died
    for shard in shards:
        shard_pass.work(shard)
        done(shard)


def _start_worker(any_started: c_bool) -> None:
    any_started.value = True
    # The parent alone answers Ctrl-C: it lets the shards in work end and keeps them.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # libmpg123 prints complaints about MP3 files; the reasons are in the list of skipped recordings.
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    end_with_parent()
