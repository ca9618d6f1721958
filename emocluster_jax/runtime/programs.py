"""Compiled programs: kept on disk for the next process, and freed before this one holds too many."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import jax

from emocluster_jax.runtime.parallel import check_not_forked
from emocluster_jax.storage.caches import compiled_programs

_MOST_MAPS = 20_000


def keep_programs() -> None:
    """Has JAX keep the programs of this process for the next ones, the small ones too, as there are many of them.

    They go to the folder that `JAX_COMPILATION_CACHE_DIR` names, else to `~/.cache/emocluster_jax/xla`. Where JAX was
    configured before, by its `jax_compilation_cache_dir` or that variable, nothing changes.
    """
    # `emocluster_jax` may have set the variable after JAX was imported, which then does not know of it.
    folder = os.environ.get("JAX_COMPILATION_CACHE_DIR") or compiled_programs()
    if jax.config.jax_compilation_cache_dir is None and folder:  # type: ignore[attr-defined]
        jax.config.update("jax_compilation_cache_dir", str(folder))
        if "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS" not in os.environ:
            jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)


@contextmanager
def freed_programs() -> Iterator[None]:
    """Frees all compiled programs of this process at the block's end, once there are many.

    `jax.pmap` keeps its programs as long as the process lives (JAX 0.10 and 0.11): some 3,000 memory maps for each
    training of other settings or shapes, of the 65,530 that Linux allows. Without this, the twentieth in a notebook
    would crash inside XLA.
    """
    check_not_forked()
    try:
        yield
    finally:
        if _memory_maps() > _MOST_MAPS:
            jax.clear_caches()


def _memory_maps() -> int:
    """How many this process has; 0 where the system, which then has no such limit, does not tell."""
    maps = Path("/proc/self/maps")
    return maps.read_bytes().count(b"\n") if maps.exists() else 0
