from __future__ import annotations

from dataclasses import dataclass

import jax

from emocluster_jax.runtime.device_memory import UNTOLD_BYTES, DeviceMemory, device_memory


@dataclass(frozen=True)
class Accelerator:
    """What this machine may not have."""

    statistics: dict[str, int] | None
    platform: str = "gpu"

    def memory_stats(self) -> dict[str, int] | None:
        return self.statistics


def test_a_cpu_has_none_of_its_own() -> None:
    assert device_memory(jax.devices("cpu")) is None


def test_the_device_with_the_least_counts() -> None:
    larger = Accelerator({"bytes_limit": 80, "bytes_in_use": 75})
    smaller = Accelerator({"bytes_limit": 24, "bytes_in_use": 4})
    assert device_memory([larger, smaller]) == DeviceMemory(24, 5)


def test_an_accelerator_that_does_not_tell_is_taken_for_a_small_one() -> None:
    for statistics in (None, {}, {"bytes_in_use": 3}):
        found = device_memory([Accelerator({"bytes_limit": 80, "bytes_in_use": 75}), Accelerator(statistics)])
        assert found == DeviceMemory(UNTOLD_BYTES, UNTOLD_BYTES, told=False)
