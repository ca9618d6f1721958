"""The memory of the devices that this process computes on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol, runtime_checkable

import jax

UNTOLD_BYTES = 4 << 30
"""What an accelerator that does not tell its memory is taken to have."""


@runtime_checkable
class Device(Protocol):
    """What is asked of a device of JAX."""

    @property
    def platform(self) -> str: ...

    def memory_stats(self) -> dict[str, int] | None: ...


class DeviceMemory(NamedTuple):
    """Bytes for arrays on one device, and what of them is free; `told` unless they are assumed."""

    total: int
    free: int
    told: bool = True


def device_memory(devices: Sequence[Device] | None = None) -> DeviceMemory | None:
    """The least memory of any local device; None for CPUs, whose arrays lie in the host's memory."""
    devices = jax.local_devices() if devices is None else devices
    if all(device.platform == "cpu" for device in devices):
        return None
    found = [device.memory_stats() or {} for device in devices]
    if any("bytes_limit" not in statistics for statistics in found):
        return DeviceMemory(UNTOLD_BYTES, UNTOLD_BYTES, told=False)
    totals = [statistics["bytes_limit"] for statistics in found]
    free = [total - statistics["bytes_in_use"] for total, statistics in zip(totals, found, strict=True)]
    return DeviceMemory(min(totals), min(free))
