"""The host's cores and memory, as far as this process may use them."""

from __future__ import annotations

import ctypes
import os
import platform
from pathlib import Path

_MALLOC = {"M_ARENA_MAX": (-8, 1), "M_MMAP_MAX": (-4, 0), "M_TRIM_THRESHOLD": (-1, -1), "M_TOP_PAD": (-2, 256 * 2**20)}
"""Parameters of glibc's malloc by their names in malloc.h: number and value."""


def usable_cores() -> int:
    """Cores that the system lets this process run on: under Slurm or taskset, fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def keep_freed_memory() -> None:
    """Makes glibc's malloc keep freed memory instead of returning it to the system; call it before JAX is imported.

    XLA allocates the activations of each training step anew, hundreds of megabytes. By default glibc maps and unmaps
    such blocks, so that each step pays a page fault and the clearing of a page for every 4 KiB. In return the process
    stays as large as it has ever been. All threads share one arena: the others cannot hold such blocks.
    """
    if platform.system() != "Linux" or platform.libc_ver()[0] != "glibc":
        return
    mallopt = ctypes.CDLL(None).mallopt
    for parameter, value in _MALLOC.values():
        mallopt(parameter, value)


def available_bytes(cgroup: Path = Path("/sys/fs/cgroup")) -> int:
    """Memory that this process may still take: the machine's, or what is left of its container's limit.

    `cgroup` is the folder of the container's control group, version 2.
    """
    import psutil

    available = psutil.virtual_memory().available
    try:
        limit = int((cgroup / "memory.max").read_text())
        used = int((cgroup / "memory.current").read_text())
        statistics = dict(line.split() for line in (cgroup / "memory.stat").read_text().splitlines())
        # Cached files count as used, but make room when it is needed.
        return min(available, max(0, limit - used + int(statistics["file"])))
    except (OSError, ValueError, KeyError):
        return available
