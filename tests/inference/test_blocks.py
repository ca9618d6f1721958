"""How many recordings a device is given at a time."""

from __future__ import annotations

import pytest

from emocluster_jax.config import ModelConfig
from emocluster_jax.inference import forward
from emocluster_jax.runtime.device_memory import DeviceMemory

SHAPE = 11, 62, 128


@pytest.mark.parametrize(
    ("gigabytes", "width", "recordings"),
    # 2 MB a chunk at full width, of a sixteenth of the memory: 4,000 and 250 chunks; at most 2,048.
    [(140, 1.0, 2_048 // 11), (8, 1.0, 246 // 11), (8, 0.25, 984 // 11), (1e-3, 1.0, 1)],
)
def test_blocks_fit_an_accelerators_memory(
    gigabytes: float, width: float, recordings: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    total = int(gigabytes * 1e9)
    monkeypatch.setattr(forward, "device_memory", lambda: DeviceMemory(total, total // 2))
    assert forward._block(SHAPE, ModelConfig(width_multiplier=width)) == recordings


def test_blocks_of_a_cpu_are_a_multiple_of_what_fits_its_cache() -> None:
    config = ModelConfig()
    for shape in (SHAPE, (1, 62, 128), (3, 62, 128), (1_000, 62, 128)):
        assert forward._block(shape, config) % forward._at_once(shape[0]) == 0
    assert forward._block(SHAPE, config) * 11 == 88
