"""The host's memory: how this process keeps its own, and how much there is to have."""

from __future__ import annotations

import ctypes
import platform
from pathlib import Path

# glibc's malloc.h.
M_TRIM_THRESHOLD = -1
M_TOP_PAD = -2
M_MMAP_MAX = -4
M_ARENA_MAX = -8


def keep_freed_memory() -> None:
    """Lets malloc keep what is freed instead of handing it back to the system; to be called before JAX is imported.

    XLA allocates the activations of each training step separately, hundreds of megabytes. By default glibc maps such
    blocks and unmaps them when they are freed, so that each step pays a page fault, and the clearing of a page, for
    every 4 KiB. Kept, the pages serve the next step. The price is that the process stays as large as it has ever been.

    All threads must share one arena for this: the other arenas are made of small heaps that cannot hold such blocks.
    Does nothing where the C library is not glibc.
    """
    if platform.system() != "Linux" or platform.libc_ver()[0] != "glibc":
        return
    mallopt = ctypes.CDLL(None).mallopt
    mallopt(M_ARENA_MAX, 1)
    mallopt(M_MMAP_MAX, 0)
    mallopt(M_TRIM_THRESHOLD, -1)
    mallopt(M_TOP_PAD, 256 * 2**20)


def available_bytes(cgroup: Path = Path("/sys/fs/cgroup")) -> int:
    """Memory that this process may still take: what the machine has, or what is left of its container's limit.

    Args:
      cgroup: folder of the container's control group, version 2; where it has no limit, the machine decides.
    """
    import psutil

    available = psutil.virtual_memory().available
    try:
        limit = int((cgroup / "memory.max").read_text())
        used = int((cgroup / "memory.current").read_text())
        statistics = dict(line.split() for line in (cgroup / "memory.stat").read_text().splitlines())
        # Cached files count as used, but give way.
        return min(available, max(0, limit - used + int(statistics["file"])))
    except (OSError, ValueError, KeyError):
        return available
