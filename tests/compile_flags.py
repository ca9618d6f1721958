"""XLA's flags for tests, which make it compile in half the time where it knows the option.

From 0.11 on an unknown option is fatal.
"""

from __future__ import annotations

from importlib.metadata import version

_KNOWN = tuple(map(int, version("jaxlib").split(".")[:2])) < (0, 11)
COMPILE_SOONER = "--xla_cpu_use_fusion_emitters=false" if _KNOWN else ""


def flags_of_devices(count: int) -> str:
    """XLA_FLAGS for a process with this many virtual devices."""
    return f"{COMPILE_SOONER} --xla_force_host_platform_device_count={count}".strip()
