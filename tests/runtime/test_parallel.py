"""Each argument of a program goes to the devices as it should, however many arrays there are in it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from compile_flags import flags_of_devices

WORKER = Path(__file__).with_name("devices_worker.py")


@pytest.mark.parametrize("devices", [1, 8])
def test_arrays_are_shared_out_by_their_argument(devices: int) -> None:
    environment = os.environ | {
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": flags_of_devices(devices),
        "PYTHONPATH": str(WORKER.parents[2]),
    }
    run = subprocess.run([sys.executable, WORKER], env=environment, capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stderr
    told = json.loads(run.stdout)
    assert told["devices"] == devices and "0 3 0" in told["results"]
    assert {counts: found for counts, found in told["results"].items() if not all(found.values())} == {}
