"""How long programs take to compile, and to load from the persistent cache that the commands keep."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import jax
from jax.experimental.compilation_cache import compilation_cache


def compile_times(first_call: Callable[[], object]) -> tuple[float, float]:
    """Seconds of the first call of programs with an empty persistent cache, and with one that holds them.

    Args:
      first_call: calls the programs, with as little work for them as possible.
    """
    with tempfile.TemporaryDirectory() as folder, _cache_in(folder):
        cold = seconds_of(first_call)
        jax.clear_caches()
        return cold, seconds_of(first_call)


def seconds_of(call: Callable[[], object]) -> float:
    """How long a call takes."""
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


@contextmanager
def _cache_in(folder: str) -> Iterator[None]:
    before: Any = jax.config.values["jax_compilation_cache_dir"]
    _use(folder)
    try:
        yield
    finally:
        _use(before)


def _use(folder: str | None) -> None:
    jax.config.update("jax_compilation_cache_dir", folder)
    compilation_cache.reset_cache()  # JAX looks the folder up only once
