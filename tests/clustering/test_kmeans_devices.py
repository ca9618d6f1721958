"""K-means on points spread over eight devices gives what one device gives."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from compile_flags import flags_of_devices

WORKER = Path(__file__).with_name("devices_worker.py")
CASES = {"random": 10, "kmeans++": 10, "duplicates": 11, "fewer distinct points": 9}


@pytest.fixture(scope="module")
def differences() -> dict:
    environment = os.environ | {
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": flags_of_devices(8),
        "PYTHONPATH": str(WORKER.parents[2]),
    }
    run = subprocess.run([sys.executable, WORKER], env=environment, capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)


@pytest.mark.parametrize("case", CASES)
def test_eight_devices_give_what_one_gives(differences: dict, case: str) -> None:
    assert differences["devices"] == 8
    found = differences[case]
    # Only the order of sums differs: float32 rounding of numbers of size 20.
    assert found["centroids"] < 2e-5
    assert found["assignments"] == 0
    assert found["objective"] < 1e-5
    assert found["reseeded"] == 0
    assert found["clusters_on_one"] == CASES[case]


def test_an_infinite_point_ends_on_all_of_them(differences: dict) -> None:
    assert differences["infinite point"] == ["inf", "inf"]


def test_the_embedding_transform_too(differences: dict) -> None:
    assert differences["transform"] < 1e-5
