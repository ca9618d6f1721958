"""Every compiled program lowers for TPUs and for NVIDIA's GPUs, neither of which a test machine needs to have.

This catches what only a CPU can lower, and the CPU's own convolutions where they do not belong; not what a device's
compiler dislikes afterwards.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from compile_flags import flags_of_devices

TESTS = Path(__file__).resolve().parent.parent
DEVICES = 2
WITH_CONVOLUTIONS = ("stage I", "stage II", "prediction", "embedding", "evaluation")
WHAT_IS_READ_OR_KEPT = ("evaluation", "prediction")
WITH_COLLECTIVES = ("stage I", "stage II", "K-means")


@pytest.fixture(scope="module")
def lowered() -> dict[str, dict[str, Any]]:
    """What each program became on each platform; see `lowering_worker`."""
    environment = os.environ | {
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": flags_of_devices(DEVICES),
        "PYTHONPATH": os.pathsep.join(map(str, (TESTS.parent, TESTS))),
    }
    worker = Path(__file__).with_name("lowering_worker.py")
    result = subprocess.run([sys.executable, worker], env=environment, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


@pytest.mark.parametrize("platform", ["tpu", "cuda"])
def test_every_program_lowers(lowered: dict[str, dict[str, Any]], platform: str) -> None:
    assert len(lowered) >= 30
    for name, platforms in lowered.items():
        found = platforms[platform]
        assert "error" not in found, f"{name}: {found['error']}"
        kind = name.partition(",")[0]
        assert found["convolution"] == (kind in WITH_CONVOLUTIONS), name
        # Three layers forward, their kernels' gradients, and the inputs' gradients of two.
        assert found["kernels"] == (8 if platform == "cuda" and name.endswith("fused") else 0), name
        assert found["devices"] == (1 if kind == "prediction" else DEVICES), name
        assert found["all_reduce"] == (kind in WITH_COLLECTIVES), name
        # Batches are dealt out without gathering the split: a replicated gather would show no reduce-scatter.
        assert found["reduce_scatter"] == (kind == "batch of a split"), name


@pytest.mark.parametrize("platform", ["tpu", "cuda"])
def test_what_people_read_or_keep_is_multiplied_in_full_float32(
    lowered: dict[str, dict[str, Any]], platform: str
) -> None:
    """Whatever the network was trained in: GPUs would round float32 operands to TF32, TPUs to bfloat16."""
    kinds = {name: name.partition(",")[0] for name in lowered}
    assert set(WHAT_IS_READ_OR_KEPT) < set(kinds.values())
    for name, platforms in lowered.items():
        products = platforms[platform]["products"]
        if kinds[name] in WHAT_IS_READ_OR_KEPT:
            # Six convolutions (the first is a sum), the shared layer and the regressor's two.
            assert len(products) >= 9 and all(product == ["HIGHEST", "f32"] for product in products), name
        elif kinds[name] == "K-means":
            assert products and all(product == ["HIGHEST", "f32"] for product in products), name
    # Where nothing is kept, devices may be as fast as they are.
    half = "embedding, emocluster bfloat16"
    assert ["DEFAULT", "bf16"] in lowered[half][platform]["products"]
    assert ["DEFAULT", "f32"] in lowered["embedding, emocluster float32"][platform]["products"]
