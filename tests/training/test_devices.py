"""One device, eight virtual devices, and two processes: the same losses, gradients, statistics and clusters."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from emocluster_jax.reporting.metrics_log import read_metrics

TESTS = Path(__file__).resolve().parent.parent
WORKER = Path(__file__).with_name("devices_worker.py")


def start(folder: Path, devices: int, *processes: object) -> subprocess.Popen[str]:
    environment = os.environ | {
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}",
        "PYTHONPATH": os.pathsep.join(map(str, (TESTS.parent, TESTS))),
    }
    arguments = [sys.executable, WORKER, folder / "results.npz", folder / "run", *processes]
    return subprocess.Popen(
        [str(argument) for argument in arguments],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(process: subprocess.Popen[str]) -> None:
    output, _ = process.communicate(timeout=600)
    assert process.returncode == 0, output


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("one")
    finish(start(folder, 1))
    return folder


@pytest.fixture(scope="module")
def eight(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("eight")
    finish(start(folder, 8))
    return folder


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("two")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    for process in [start(folder, 1, address, 2, i) for i in range(2)]:
        finish(process)
    return folder


@pytest.mark.parametrize("other", ["eight", "two_processes"])
def test_one_step_and_clusters(one: Path, other: str, request: pytest.FixtureRequest) -> None:
    folder = request.getfixturevalue(other)
    with np.load(one / "results.npz") as expected, np.load(folder / "results.npz") as found:
        assert set(expected) == set(found)
        assert any("gradients" in name for name in expected)
        np.testing.assert_array_equal(found["kmeans/assignments"], expected["kmeans/assignments"])
        for name in expected:
            scale = np.abs(expected[name]).max()
            # Float32 sums in another order: some 1e-6 of the largest value, and gradients pass seven normalisations.
            # The regressor's bias sums up terms of about 1e-2 that cancel to 1e-6 or less: it keeps their rounding.
            np.testing.assert_allclose(found[name], expected[name], rtol=0, atol=2e-5 * scale + 5e-8, err_msg=name)


@pytest.mark.parametrize("other", ["eight", "two_processes"])
def test_whole_run(one: Path, other: str, request: pytest.FixtureRequest) -> None:
    folder = request.getfixturevalue(other)
    expected, found = (read_metrics(path / "run" / "metrics.jsonl") for path in (one, folder))
    assert [epoch["epoch"] for epoch in found] == [1, 2]
    with (
        np.load(one / "run" / "assignments" / "epoch-000001.npz") as first,
        np.load(folder / "run" / "assignments" / "epoch-000001.npz") as other_first,
    ):
        np.testing.assert_array_equal(first["stage1"], other_first["stage1"])
    for name in ("stage1_cross_entropy", "stage2_cross_entropy", "ccc_loss"):
        # Later steps amplify rounding: Adam's first steps are nearly signs of gradients, whatever their size.
        assert found[0][name] == pytest.approx(expected[0][name], rel=1e-2), name
    assert (folder / "run" / "model" / "model.json").exists()
