"""The suites as commands, at sizes so small that their figures mean nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from emocluster_jax.benchmark.made_data import labelled_recordings
from emocluster_jax.benchmark.preparation_suites import long_recording
from emocluster_jax.benchmark.programs import compile_times
from emocluster_jax.console import Console
from emocluster_jax.errors import InputError
from launch.benchmark import Options, benchmark

PROJECT = Path(__file__).resolve().parent.parent.parent
COMPUTE = ("train", "embed", "kmeans", "epoch")
FIELDS = {"suite", "case", "device", "seconds", "peer", "peer_seconds", "ratio", "compile_seconds", "peak_bytes"}


def test_compute_suites_need_neither_librosa_nor_tfds(tmp_path: Path) -> None:
    """On a machine without them, and without the peers."""
    for name in ("librosa", "tensorflow_datasets", "torch", "faiss", "soundfile"):
        package = tmp_path / "absent" / name
        package.mkdir(parents=True)
        (package / "__init__.py").write_text(
            f"open({str(tmp_path / name)!r}, 'w').close()\nraise ModuleNotFoundError('absent', name={name!r})\n"
        )
    output = tmp_path / "results.jsonl"
    path = os.pathsep.join(map(str, (tmp_path / "absent", PROJECT)))
    arguments = [*COMPUTE, "--quick", "--repetitions", "1", "--output", output]
    result = subprocess.run(
        [sys.executable, "-m", "launch.benchmark", *map(str, arguments)],
        env=os.environ | {"PYTHONPATH": path, "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert result.returncode == 0, result.stderr
    assert "train: joint step, 22 chunks, float32: without PyTorch: torch is not installed" in result.stderr
    assert "without faiss-cpu: faiss is not installed" in result.stderr
    assert not any((tmp_path / name).exists() for name in ("librosa", "tensorflow_datasets", "soundfile"))

    rows = [json.loads(line) for line in output.read_text().splitlines()]
    assert [row["suite"] for row in rows] == list(COMPUTE)
    for row in rows:
        assert set(row) >= FIELDS
        assert row["device"].startswith("CPU, ")
        assert row["seconds"] > 0 and row["compile_seconds"] > 0 and row["peak_bytes"] > 10**8
    kmeans = rows[2]
    assert kmeans["peer"] == "scikit-learn"
    # The same start and as many iterations: the same clusters, summed in another order.
    assert kmeans["figures"]["objective"] == pytest.approx(kmeans["peer_figures"]["objective"], rel=1e-5)
    assert set(rows[3]["figures"]) >= {"embed", "kmeans", "steps", "validate", "share outside programs"}
    assert "2,000 x 256, K = 10" in result.stdout


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"suites": ()}, "no suite is named"),
        ({"suites": ("train",), "repetitions": 0}, "`repetitions` is 0"),
        (
            {"suites": ("train",), "output": Path("no/such/folder/results.jsonl")},
            "there is no folder no/such/folder",
        ),
        ({"suites": ("train",), "output": Path()}, "is a folder"),
        ({"suites": ("kmeans", "embed"), "case": "K = 7"}, "no case of embed, kmeans contains 'K = 7'"),
    ],
)
def test_what_is_wrong_with_a_request_is_said_first(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        benchmark(Options(**options), Console(quiet=True))


def test_compile_times_are_of_an_empty_and_of_a_full_cache() -> None:
    events: list[str] = []
    jax.monitoring.register_event_listener(lambda event, **_: events.append(event))
    program = jax.jit(lambda x: x @ x.T + 3)
    compile_times(lambda: program(np.ones((7, 5), np.float32)))
    hits = [event.rpartition("/")[2] for event in events if event.startswith("/jax/compilation_cache/cache_")]
    assert hits == ["cache_misses", "cache_hits"]


def test_memory_is_that_of_every_window_of_a_long_recording() -> None:
    with closing(long_recording(hours=0.05, window_s=50.0)) as work:
        assert work.repeat() == {"rows": 4}
        assert work.peak_bytes is not None and work.peak_bytes() > 10**8  # JAX alone takes that


def test_random_recordings_are_the_same_everywhere_and_tell_of_their_ratings() -> None:
    chunks, ratings = labelled_recordings(30, seed=5)
    again, _ = labelled_recordings(30, seed=5)
    np.testing.assert_array_equal(chunks, again)
    assert chunks.shape == (30, 11, 62, 128) and chunks.dtype == np.float16
    assert np.abs(chunks).max() <= 3
    means = chunks.astype(np.float32).mean(axis=(1, 2, 3))
    assert np.corrcoef(means, ratings[:, 0])[0, 1] > 0.99
