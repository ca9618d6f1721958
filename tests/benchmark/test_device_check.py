"""The suites that look at a device: is it right, and what does it spend its time in?"""

from __future__ import annotations

from typing import Any

import pytest

from emocluster_jax.benchmark import network_suites, parity_suite, profile_suite
from emocluster_jax.benchmark.cases import Device

NARROW = 0.125


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_network_computes_what_plain_layers_compute(dtype: str) -> None:
    figures = parity_suite.evaluation(1, dtype, NARROW).repeat()
    assert figures is not None and figures.keys() == {"attributes", "embeddings"}
    assert 0 < max(figures.values()) <= parity_suite.TOLERANCE[dtype]


def test_gradients_are_those_of_plain_layers() -> None:
    figures = parity_suite.training(1, "float32", NARROW).repeat()
    assert figures is not None and figures.keys() == {"attributes", "embeddings", "gradients"}
    assert 0 < max(figures.values()) <= parity_suite.TOLERANCE["float32"]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_each_layer_computes_what_a_plain_one_computes(dtype: str) -> None:
    figures = parity_suite.layers(1, dtype, NARROW).repeat()
    assert figures is not None and list(figures) == [f"layer {number}" for number in range(1, 8)]
    assert 0 < max(figures.values()) <= parity_suite.TOLERANCE[dtype]


def test_this_projects_kernels_are_looked_at_where_they_run() -> None:
    for device, number in (Device("gpu", "old"), 0), (Device("gpu", "new", kernels=True), 4):
        suites = parity_suite.parity_cases, network_suites.train_cases, profile_suite.profile_cases
        cases = [case for suite in suites for case in suite(device, False)]
        assert sum("fused" in case.name for case in cases) == number
        assert all(("fused" in case.ours.arguments["arithmetic"]) is ("fused" in case.name) for case in cases)


@pytest.mark.parametrize("part", ["evaluation", "training"])
def test_another_network_is_found_out(part: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parity_suite, "NORM_EPSILON", 1e-2)
    with pytest.raises(AssertionError, match=r"attributes differ by .* of their norm, allowed are 1e-05"):
        getattr(parity_suite, part)(1, "float32", NARROW).repeat()


def test_a_profile_adds_up_what_a_device_ran() -> None:
    def told(kind: str, pid: int, name: str, tid: int = 0) -> dict[str, Any]:
        return {"name": kind, "pid": pid, "tid": tid, "args": {"name": name}}

    def event(name: str, pid: int, tid: int, microseconds: float) -> dict[str, Any]:
        return {"name": name, "pid": pid, "tid": tid, "dur": microseconds}

    about = [
        told("process_name", 1, "/device:GPU:0"),
        told("process_name", 2, "/host:CPU"),
        told("thread_name", 1, "Stream #17(Compute)", 3),
        told("thread_name", 1, "XLA Ops", 4),
        told("thread_name", 2, "tf_XLAEigen/5", 5),
    ]
    events = [event("conv", 1, 3, 1500), event("conv", 1, 3, 500), event("fusion", 1, 3, 250)]
    repeated, host = event("conv", 1, 4, 2000), event("dot", 2, 5, 750)
    assert profile_suite.kernels({"traceEvents": [*about, *events, repeated, host]}) == {"conv": 2.0, "fusion": 0.25}
    without_device = [entry for entry in about if entry["pid"] == 2]
    assert profile_suite.kernels({"traceEvents": [*without_device, host, event("idle", 2, 6, 9)]}) == {"dot": 0.75}


def test_a_profile_of_this_machine() -> None:
    figures = profile_suite.embedding(2, "float32", NARROW).repeat()
    assert figures is not None and any("conv" in name for name in figures)
    assert figures["all"] == pytest.approx(sum(figures.values()) - figures["all"])
