"""How long a program takes to compile, cold and from the persistent cache that the commands keep."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import jax
from jax.experimental.compilation_cache import compilation_cache


def compile_times(first_call: Callable[[], object]) -> tuple[float, float]:
    """Seconds of the first call of programs, in an empty persistent cache and in one that holds them.

    Args:
      first_call: calls the programs, with as little to do for them as possible.
    """
    with tempfile.TemporaryDirectory() as folder, _cache_in(folder):
        started = time.perf_counter()
        first_call()
        cold = time.perf_counter() - started
        jax.clear_caches()
        started = time.perf_counter()
        first_call()
        return cold, time.perf_counter() - started


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
    compilation_cache.reset_cache()  # JAX asks for the folder once
