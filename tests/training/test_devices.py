"""One device and eight virtual ones: the same losses, gradients, statistics and clusters, and to each its share.

Several processes are tested in tests/launch/test_several_processes.py.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from compile_flags import flags_of_devices
from emocluster_jax.training.metrics_log import read_metrics

TESTS = Path(__file__).resolve().parent.parent


def run(worker: str, devices: int, *arguments: Path) -> str:
    """What a script beside this file prints, on so many virtual devices."""
    environment = os.environ | {
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": flags_of_devices(devices),
        "PYTHONPATH": os.pathsep.join(map(str, (TESTS.parent, TESTS))),
    }
    command = [sys.executable, Path(__file__).with_name(worker), *arguments]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("one")
    run("devices_worker.py", 1, folder / "results.npz", folder / "run")
    return folder


@pytest.fixture(scope="module")
def eight(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("eight")
    run("devices_worker.py", 8, folder / "results.npz", folder / "run")
    return folder


def test_one_step_and_clusters(one: Path, eight: Path) -> None:
    with np.load(one / "results.npz") as expected, np.load(eight / "results.npz") as found:
        assert set(expected) == set(found)
        assert any("gradients" in name for name in expected)
        assert expected["recordings_by_device"].tolist() == [25]
        assert found["recordings_by_device"].tolist() == [4] * 8
        np.testing.assert_array_equal(found["kmeans/assignments"], expected["kmeans/assignments"])
        for name in set(expected) - {"recordings_by_device"}:
            scale = np.abs(expected[name]).max()
            # Float32 sums in another order: some 1e-6 of the largest value, and gradients pass seven normalisations.
            # The regressor's bias sums up terms of about 1e-2 that cancel to 1e-6 or less: it keeps their rounding.
            np.testing.assert_allclose(found[name], expected[name], rtol=0, atol=2e-5 * scale + 5e-8, err_msg=name)


def test_whole_run(one: Path, eight: Path) -> None:
    expected, found = (read_metrics(path / "run" / "metrics.jsonl") for path in (one, eight))
    assert [epoch["epoch"] for epoch in found] == [1]
    with (
        np.load(one / "run" / "assignments" / "epoch-000001.npz") as first,
        np.load(eight / "run" / "assignments" / "epoch-000001.npz") as other_first,
    ):
        np.testing.assert_array_equal(first["stage1"], other_first["stage1"])
    for name in ("stage1_cross_entropy", "stage2_cross_entropy", "ccc_loss"):
        # Later steps amplify rounding: Adam's first steps are nearly signs of gradients, whatever their size.
        assert found[0][name] == pytest.approx(expected[0][name], rel=1e-2), name
    assert (eight / "run" / "model" / "model.json").exists()


def test_more_devices_hold_less_each_and_do_no_work_twice() -> None:
    on_two, on_eight = (json.loads(run("share_worker.py", devices)) for devices in (2, 8))
    networks, over_splits = (
        ("stage II, float32", "embedding, emocluster float32"),
        ("block of a split", "batch of a split"),
    )
    assert set(on_two) == {*networks, *over_splits, "K-means, random"}
    for name, eighth in on_eight.items():
        half = on_two[name]
        assert eighth["outputs"] <= half["outputs"] and eighth["temporaries"] <= 1.01 * half["temporaries"], name
        # A step over four times the batch, or a block of an array four times as long, is no more work for a device.
        assert eighth["operations"] <= 1.01 * half["operations"], name
        assert eighth["operations"] > 0 or name in over_splits, name  # which only move rows
        if name in networks:
            continue  # its share of a batch, or a block, whatever the split
        # A quarter, and what all hold alike. One array of all chunks or embeddings on each device would make it more
        # than the whole.
        assert eighth["arguments"] < 0.27 * half["arguments"], name
        # Blocks and K-means' bounds, but no array that would need the eight devices' shares together.
        assert eighth["outputs"] + eighth["temporaries"] < eighth["arguments"], name
