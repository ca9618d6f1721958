"""Contenders in their own processes: whose turn it is, what is told of them, and who is left out."""

from __future__ import annotations

import platform
import sys
from multiprocessing import Pipe
from pathlib import Path
from typing import Any

import pytest

from emocluster_jax.benchmark.cases import Case, Contender, Device
from emocluster_jax.benchmark.measurement import measure
from emocluster_jax.benchmark.worker import UnavailableError, Worker
from emocluster_jax.console import Console

DEVICE = Device("cpu", "a CPU")


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes take over this one's module path."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent))


def contender(label: str, function: str, keeps_memory: bool = False, **arguments: Any) -> Contender:
    return Contender(label, f"contenders:{function}", arguments, keeps_memory)


def test_repetitions_alternate_and_processes_end(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    trace = tmp_path / "trace"
    ours, *peers = (contender(name, "tracing", trace=str(trace), name=name) for name in ("ours", "a", "b"))
    rows = measure(Case("suite", "case", ours, tuple(peers)), DEVICE, 3, Console())
    assert trace.read_text().split() == ["ours", "a", "b"] * 3
    assert all(trace.with_name(f"trace.{name}.closed").exists() for name in ("ours", "a", "b"))
    assert [row.peer for row in rows] == ["a", "b"]
    for row in rows:
        assert row.peer_seconds is not None and row.ratio_range is not None
        assert row.ratio == row.peer_seconds / row.seconds > 0
        assert 0 < row.ratio_range[0] <= row.ratio_range[1]
        assert (row.repetitions, row.compile_seconds, row.device) == (3, 1.5, "a CPU")
        assert row.figures == row.peer_figures == {"done": 3}
        assert row.peak_bytes > 1e6
    printed = capfd.readouterr().out
    assert [line.split(": ")[2] for line in printed.splitlines() if "at first" in line] == ["ours", "a", "b"]
    assert "must not land" not in printed


def test_seconds_are_those_of_a_unit(tmp_path: Path) -> None:
    trace = str(tmp_path / "trace")
    ours = contender("ours", "tracing", trace=trace, name="ours", units=1e9)
    peer = contender("peer", "tracing", trace=trace, name="peer")
    (row,) = measure(Case("suite", "case", ours, (peer,), once=True), DEVICE, 3, Console(quiet=True))
    assert row.repetitions == 1
    # No machine takes a billion times as long for the same line of a file.
    assert row.ratio is not None and row.ratio > 1e3


def test_peers_that_cannot_take_part_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ours = contender("ours", "tracing", trace=str(tmp_path / "trace"), name="ours")
    functions = "missing", "failing", "dying", "sleeping"
    peers = tuple(contender(f"the {function} one", function) for function in functions)
    (row,) = measure(Case("suite", "case", ours, peers), DEVICE, 2, Console(quiet=True), peer_seconds=15)
    assert (row.peer, row.peer_seconds, row.ratio, row.ratio_range, row.peer_figures) == (None, None, None, None, {})
    assert row.repetitions == 2
    warnings = capsys.readouterr().err.splitlines()
    assert warnings == [
        "warning: suite: case: without the missing one: no_such_library is not installed",
        "warning: suite: case: without the failing one: ValueError: too small",
        "warning: suite: case: without the sleeping one: it was not ready within 15 s",
        "warning: suite: case: without the dying one: its process died, perhaps because memory ran out",
    ]


def test_a_process_that_has_died_while_another_was_busy() -> None:
    here, there = Pipe()
    there.send((None, None, None))
    worker = Worker(here)
    there.close()
    with pytest.raises(UnavailableError, match="its process died"):
        worker.repeat()


def test_our_own_failure_ends_the_measurement() -> None:
    with pytest.raises(UnavailableError, match="too small"):
        measure(Case("suite", "case", contender("ours", "failing")), DEVICE, 1, Console(quiet=True))


@pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc" or sys.platform != "linux", reason="malloc's settings are glibc's"
)
def test_malloc_is_tuned_for_those_that_ask_and_for_no_other() -> None:
    ours = contender("ours", "kept_megabytes", keeps_memory=True)
    (row,) = measure(
        Case("suite", "case", ours, (contender("peer", "kept_megabytes"),)), DEVICE, 1, Console(quiet=True)
    )
    assert row.figures["kept"] > 50 and row.peer_figures["kept"] < 10
    assert row.figures["jax"] == 0, "a process that has imported JAX already is too late for the setting"
