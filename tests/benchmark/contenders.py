"""Contenders that take no time and leave a trace, for test_measurement.py."""

from __future__ import annotations

import ctypes
import os
import sys
import time
from pathlib import Path

from emocluster_jax.benchmark.cases import Prepared


def tracing(trace: str, name: str, units: float = 1.0) -> Prepared:
    """Appends its name to a file at every repetition, and says how many it has done."""
    done = 0

    def repeat() -> dict[str, float]:
        nonlocal done
        done += 1
        print("must not land on stdout")
        with Path(trace).open("a") as file:
            file.write(f"{name}\n")
        return {"done": done}

    return Prepared(repeat, units, compile_seconds=1.5, close=Path(trace + f".{name}.closed").touch)


def missing() -> Prepared:
    import no_such_library  # type: ignore[import-not-found]  # noqa: F401

    raise AssertionError


def sleeping() -> Prepared:
    time.sleep(600)
    raise AssertionError


def failing() -> Prepared:
    raise ValueError("too small\nby far")


def dying() -> Prepared:
    return Prepared(lambda: os._exit(9))


def kept_megabytes() -> Prepared:
    """Tells how much of a freed block of 64 MB the process keeps."""

    def resident() -> float:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6

    def repeat() -> dict[str, float]:
        size = 64 * 10**6
        libc = ctypes.CDLL(None)
        libc.malloc.restype = ctypes.c_void_p
        libc.malloc.argtypes = libc.free.argtypes = (ctypes.c_size_t,)
        libc.free.argtypes = (ctypes.c_void_p,)
        before = resident()
        block = libc.malloc(size)
        ctypes.memset(block, 1, size)
        libc.free(block)
        return {"kept": resident() - before, "jax": float("jax" in sys.modules)}

    return Prepared(repeat)
