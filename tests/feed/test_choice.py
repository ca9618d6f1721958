"""Where chunks are to lie: what they take, and what there is."""

from __future__ import annotations

import pytest

from emocluster_jax.config import FeatureConfig
from emocluster_jax.console import Console
from emocluster_jax.feed.from_records import chunk_bytes, fits, free_bytes, resolve_feed
from emocluster_jax.runtime.device_memory import DeviceMemory


def test_size_of_the_chunks() -> None:
    # The paper's largest set, 34,280 + 5,958 + 40,000 recordings of 11 * 62 * 128 float16: some 14 GB.
    assert chunk_bytes([34_280, 5_958, 40_000], FeatureConfig()) == 80_238 * 11 * 62 * 128 * 2
    assert chunk_bytes([], FeatureConfig()) == 0


@pytest.mark.parametrize(("needed", "free", "fit"), [(4e9, 10e9, True), (4.1e9, 10e9, False), (0, 0, True)])
def test_chunks_may_take_two_fifths(needed: float, free: float, fit: bool) -> None:
    assert fits(needed, free) is fit


def test_free_memory_is_the_hosts_or_the_devices() -> None:
    host = free_bytes(None)
    assert free_bytes(DeviceMemory(10**6, 10**5)) == 10**5  # of one device
    # Half as much again, as other programs come and go.
    assert host / 2 < free_bytes(DeviceMemory(10**15, 10**15)) < 2 * host


def test_the_choice_is_said_and_can_be_overridden(capsys: pytest.CaptureFixture[str]) -> None:
    console = Console()
    assert free_bytes(None) > 1e6
    assert resolve_feed("auto", [1], FeatureConfig(), console) == "resident"
    # More than any machine has: 175 TB.
    assert resolve_feed("auto", [10**9], FeatureConfig(), console) == "streamed"
    assert resolve_feed("streamed", [1], FeatureConfig(), console) == "streamed"
    assert resolve_feed("resident", [10**9], FeatureConfig(), console) == "resident"
    lines = capsys.readouterr().out.splitlines()
    assert [("resident on" in line, "streamed from" in line) for line in lines[:2]] == [(True, False), (False, True)]
    assert lines[0].startswith("Chunks: 0.2 MB, ") and lines[1].startswith("Chunks: 174592.00 GB, ")
    assert len(lines) == 4 and all("`feed`" in line for line in lines)
