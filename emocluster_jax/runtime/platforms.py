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


def choose(
    on_cpu: Callable[..., Result],
    elsewhere: Callable[..., Result],
    *operands: Any,
    on_cuda: Callable[..., Result] | None = None,
) -> Result:
    """`on_cpu(*operands)` in a program for CPUs, `on_cuda` in one for NVIDIA's GPUs, `elsewhere` in any other."""
    # To trace what is not for this platform would make the start of a run an eighth longer.
    if only_cpu():
        return on_cpu(*operands)
    branches = {} if on_cuda is None else {"cuda": on_cuda}
    if _traces_all.get():
        branches["cpu"] = on_cpu
    return lax.platform_dependent(*operands, **branches, default=elsewhere) if branches else elsewhere(*operands)


def compiles_for_triton() -> bool:
    """Whether JAX computes on NVIDIA's GPUs for data centres from the A100 on.

    These multiply bfloat16 on tensor cores and have the shared memory that the kernels of this project take.
    """
    capabilities = {getattr(device, "compute_capability", "") for device in jax.local_devices()}
    return capabilities <= {"8.0", "9.0", "10.0", "10.3"}
