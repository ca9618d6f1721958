"""Metrics survive a round trip, a kill and a resume, as JSON lines and as TensorBoard events."""

from __future__ import annotations

import json
import math
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tensorboardX.proto.event_pb2 import Event, SessionLog

from emocluster_jax.errors import InputError
from emocluster_jax.training.metrics_log import (
    METRICS_FILE,
    TENSORBOARD_DIR,
    MetricsLog,
    cluster_metrics,
    read_metrics,
    step_curves,
)


def epoch_metrics(epoch: int) -> dict:
    return {
        "epoch": epoch,
        "stage2_cross_entropy": np.float32(2.5),
        "validation_ccc": {"arousal": 0.5 + epoch / 100},
        "nmi_previous": None,
        "cluster_sizes": np.array([3, 0, 5]),
        "seconds": {"steps": 1.25},
        "steps": {"stage1": {"gradient_norm": 0.0}, "stage2": {"gradient_norm": np.float32(epoch)}},
    }


def read_events(directory: Path) -> list[Event]:
    events = []
    for path in sorted(directory.iterdir()):
        data = path.read_bytes()
        while data:
            (length,) = struct.unpack("<Q", data[:8])
            events.append(Event.FromString(data[12 : 12 + length]))
            data = data[12 + length + 4 :]
    return events


def test_json_lines_round_trip(tmp_path):
    with MetricsLog(tmp_path) as log:
        log.write(epoch_metrics(1))
        log.write(epoch_metrics(2))
    assert read_metrics(tmp_path / METRICS_FILE) == [
        {
            "epoch": epoch,
            "stage2_cross_entropy": 2.5,
            "validation_ccc": {"arousal": 0.5 + epoch / 100},
            "nmi_previous": None,
            "cluster_sizes": [3, 0, 5],
            "seconds": {"steps": 1.25},
            "steps": {"stage1": {"gradient_norm": 0.0}, "stage2": {"gradient_norm": float(epoch)}},
        }
        for epoch in (1, 2)
    ]
    assert step_curves(read_metrics(tmp_path / METRICS_FILE)) == {"stage II gradient norm": [1.0, 2.0]}


@pytest.mark.parametrize("value", [float("nan"), float("inf"), np.float32("-inf")])
def test_what_is_not_finite_becomes_null(tmp_path, value):
    with MetricsLog(tmp_path) as log:
        log.write({"epoch": 1, "ccc_loss": value, "validation_ccc": {"arousal": np.array([value, 1.0])}})

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    written = json.loads((tmp_path / METRICS_FILE).read_text(), parse_constant=refuse)
    assert written == {"epoch": 1, "ccc_loss": None, "validation_ccc": {"arousal": [None, 1.0]}}


def test_resuming_drops_later_epochs_and_a_cut_line(tmp_path):
    with MetricsLog(tmp_path) as log:
        for epoch in (1, 2, 3):
            log.write(epoch_metrics(epoch))
    path = tmp_path / METRICS_FILE
    with path.open("a") as file:
        file.write('{"epoch": 4, "ccc_l')
    assert [metrics["epoch"] for metrics in read_metrics(path)] == [1, 2, 3]
    with MetricsLog(tmp_path, epochs_done=2) as log:
        assert [metrics["epoch"] for metrics in read_metrics(path)] == [1, 2]
        log.write(epoch_metrics(3))
    assert [metrics["epoch"] for metrics in read_metrics(path)] == [1, 2, 3]
    assert [p.name for p in tmp_path.iterdir() if "partial" in p.name] == []


def test_a_new_run_begins_anew(tmp_path):
    with MetricsLog(tmp_path) as log:
        log.write(epoch_metrics(1))
    MetricsLog(tmp_path).close()
    assert read_metrics(tmp_path / METRICS_FILE) == []


def test_tensorboard_events(tmp_path):
    with MetricsLog(tmp_path, epochs_done=4) as log:
        log.write(epoch_metrics(5))
    events = read_events(tmp_path / TENSORBOARD_DIR)
    # The start event's step tells TensorBoard to forget epochs from there on.
    assert [event.step for event in events if event.session_log.status == SessionLog.START] == [5]
    values = {value.tag: value for event in events if event.step == 5 for value in event.summary.value}
    norms = {"steps/stage1/gradient_norm", "steps/stage2/gradient_norm"}
    assert set(values) == norms | {
        "stage2_cross_entropy",
        "validation_ccc/arousal",
        "cluster_sizes",
        "seconds/steps",
    }
    assert values["validation_ccc/arousal"].simple_value == pytest.approx(0.55)
    histogram = values["cluster_sizes"].histo
    assert list(histogram.bucket) == [3, 0, 5] and list(histogram.bucket_limit) == [1, 2, 3]
    assert histogram.num == 8


def test_tensorboard_does_without_pytorch_where_it_is_installed(tmp_path):
    pytest.importorskip("torch")
    code = f"""
import sys
from pathlib import Path
from emocluster_jax.training.metrics_log import MetricsLog
with MetricsLog(Path({str(tmp_path)!r})) as log:
    log.write({{"epoch": 1, "loss": 0.5}})
assert "torch" not in sys.modules
import torch
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
    assert any(event.summary.value for event in read_events(tmp_path / TENSORBOARD_DIR))


@pytest.mark.parametrize("line", ["nonsense", "[1]", '{"loss": 1}'])
def test_a_broken_line_is_named(tmp_path, line):
    path = tmp_path / METRICS_FILE
    path.write_text(f'{{"epoch": 1}}\n{line}\n')
    with pytest.raises(InputError, match="line 2"):
        read_metrics(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match=METRICS_FILE):
        read_metrics(tmp_path / METRICS_FILE)


def test_each_line_names_its_run_and_tensorboard_shows_none_of_it(tmp_path):
    with MetricsLog(tmp_path, run_id="0123456789abcdef") as log:
        log.write(epoch_metrics(1))
    (metrics,) = read_metrics(tmp_path / METRICS_FILE, "0123456789abcdef")
    assert metrics["run"] == "0123456789abcdef"
    tags = {value.tag for event in read_events(tmp_path / TENSORBOARD_DIR) for value in event.summary.value}
    assert "seconds/steps" in tags and "run" not in tags


@pytest.mark.parametrize("run_id", ["", "0123456789abcdef"])
def test_epochs_of_another_run_are_not_gone_on_with_and_nothing_is_lost(tmp_path, run_id):
    with MetricsLog(tmp_path, run_id=run_id) as log:
        log.write(epoch_metrics(1))
    before = (tmp_path / METRICS_FILE).read_bytes()
    with pytest.raises(InputError) as error:
        MetricsLog(tmp_path, epochs_done=1, run_id="fedcba9876543210")
    assert str(error.value) == (
        f"{tmp_path / METRICS_FILE} is not of the run beside it, which is fedcba9876543210: it names "
        f"{run_id or 'none'}; put back the run's own file, or move this one away"
    )
    assert (tmp_path / METRICS_FILE).read_bytes() == before
    assert not [path for path in tmp_path.iterdir() if "partial" in path.name]


def test_cluster_sizes_count_empty_clusters_too() -> None:
    sizes, nmi = cluster_metrics(np.array([0, 2, 2]), 4)
    np.testing.assert_array_equal(sizes, [1, 0, 2, 0])
    assert math.isnan(nmi)


def test_nmi_is_one_for_renamed_clusters_and_zero_for_independent_ones() -> None:
    assignments = np.array([0, 0, 1, 1])
    assert cluster_metrics(assignments, 3, np.array([2, 2, 0, 0]))[1] == pytest.approx(1)
    assert cluster_metrics(assignments, 2, np.array([0, 1, 0, 1]))[1] == pytest.approx(0, abs=1e-12)
    assert cluster_metrics(np.zeros(4, int), 1, np.zeros(4, int))[1] == 1
