"""Contenders in separate processes, so that repetitions can alternate and neither side's settings affect the other.

A process imports, compiles and warms up once, then does one repetition per message. Only one works at a time.
"""

from __future__ import annotations

import contextlib
import importlib
import multiprocessing
import os
import signal
import sys
import time
import traceback
from collections.abc import Iterator
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

from emocluster_jax.benchmark.cases import Contender, Device, Prepared
from emocluster_jax.runtime.child_processes import end_with_parent
from emocluster_jax.runtime.host import keep_freed_memory, usable_cores


class UnavailableError(Exception):
    """Why a contender cannot take part."""


class Repetition(NamedTuple):
    """Seconds per unit, figures about the result, and the most memory held so far: on the device or by the process."""

    seconds: float
    figures: dict[str, float]
    peak_bytes: int


class Worker:
    """A contender's process, as seen from outside.

    `readiness` are the `compile_seconds`, `cached_compile_seconds` and `floor_seconds` of what it prepared.
    """

    def __init__(self, connection: Connection, longest_s: float | None = None) -> None:
        self._connection = connection
        if not connection.poll(longest_s):
            raise UnavailableError(f"it was not ready within {longest_s:g} s")
        self.readiness: tuple[float | None, float | None, float | None] = self._answer()

    def repeat(self) -> Repetition:
        return self._answer("repeat")

    def _answer(self, request: str = "") -> Any:
        try:
            if request:
                self._connection.send(request)
            answer = self._connection.recv()
        except (EOFError, OSError):  # on a pipe without another end
            raise UnavailableError("its process died, perhaps because memory ran out") from None
        if isinstance(answer, UnavailableError):
            raise answer
        return answer


@contextlib.contextmanager
def working(contender: Contender, longest_s: float | None = None) -> Iterator[Worker]:
    """The contender's process, ready for repetitions; it ends with the block.

    Raises:
      UnavailableError: it failed, something that it needs is not installed, or it was not ready within `longest_s`.
    """
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs, contender))
    process.start()
    theirs.close()
    try:
        try:
            worker = Worker(ours, longest_s)
        except UnavailableError:
            process.terminate()  # it may be busy with what took too long
            raise
        yield worker
    finally:
        ours.close()
        process.join(timeout=10)
        if process.is_alive():
            process.terminate()
            process.join()


def device() -> Device:
    """What this project computes on; found out in another process, as some devices serve only one at a time."""
    with multiprocessing.get_context("spawn").Pool(1, end_with_parent) as pool:
        return pool.apply(_device)


def _device() -> Device:
    import jax

    from emocluster_jax.runtime.platforms import compiles_for_triton

    first = jax.devices()[0]
    if first.platform == "cpu":
        return Device("cpu", f"CPU, {usable_cores()} cores")
    count = f"{jax.device_count()} x " if jax.device_count() > 1 else ""
    return Device(first.platform, f"{count}{first.device_kind}", compiles_for_triton())


def _serve(connection: Connection, contender: Contender) -> None:
    """Runs in the process: prepares, reports that, and answers until the other end of the pipe is closed."""
    end_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent alone answers Ctrl-C
    os.dup2(2, 1)  # only results belong on stdout
    # Otherwise JAX would allocate most of a GPU's memory at once, and leave too little for the peers.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    if contender.keeps_memory:
        keep_freed_memory()
    try:
        module, _, function = contender.entry.partition(":")
        prepared: Prepared = getattr(importlib.import_module(module), function)(**contender.arguments)
        with contextlib.closing(prepared):
            connection.send((prepared.compile_seconds, prepared.cached_compile_seconds, prepared.floor_seconds))
            while connection.recv():
                connection.send(_repeat(prepared))
    except (EOFError, BrokenPipeError):
        return
    except ModuleNotFoundError as error:
        connection.send(UnavailableError(f"{error.name} is not installed"))
    except Exception as error:
        traceback.print_exc()
        connection.send(UnavailableError(f"{type(error).__name__}: {(str(error) or '-').splitlines()[0][:200]}"))


def _repeat(prepared: Prepared) -> Repetition:
    started = time.perf_counter()
    figures = dict(prepared.repeat() or {})
    seconds = time.perf_counter() - started
    if prepared.audio_seconds:
        figures["times real time"] = prepared.audio_seconds / seconds
    return Repetition(seconds / prepared.units, figures, (prepared.peak_bytes or _peak_bytes)())


def resident_peak_bytes(workers: int = 0) -> int:
    """The largest resident size of this process so far, plus `workers` times that of the largest process it started.

    This is an upper bound: peaks do not coincide, and libraries are counted in every process.
    """
    import resource  # not on Windows

    unit = 1 if sys.platform == "darwin" else 1024
    own, largest = (resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return unit * (own + workers * largest)


def _peak_bytes() -> int:
    if "jax" in sys.modules:
        import jax

        statistics = jax.local_devices()[0].memory_stats()
        if statistics and "peak_bytes_in_use" in statistics:
            return statistics["peak_bytes_in_use"]
    return resident_peak_bytes()
