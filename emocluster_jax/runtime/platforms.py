"""Code of their own for CPUs, where that of accelerators is slow."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

import jax
from jax import lax

Result = TypeVar("Result")

_traces_all: ContextVar[bool] = ContextVar("traces_all", default=False)


@contextmanager
def for_every_platform() -> Iterator[None]:
    """In the block, what is traced can be lowered for any platform, and not only for the one that JAX computes on.

    Programs that were traced before keep what they have.
    """
    token = _traces_all.set(True)
    try:
        yield
    finally:
        _traces_all.reset(token)


def only_cpu() -> bool:
    """Whether what is traced now is for CPUs alone."""
    return jax.default_backend() == "cpu" and not _traces_all.get()


def choose(on_cpu: Callable[..., Result], elsewhere: Callable[..., Result], *operands: Any) -> Result:
    """`on_cpu(*operands)` in a program for CPUs, `elsewhere(*operands)` in one for accelerators."""
    if _traces_all.get():
        return lax.platform_dependent(*operands, cpu=on_cpu, default=elsewhere)
    # To trace both would make the start of a run an eighth longer.
    return (on_cpu if only_cpu() else elsewhere)(*operands)
