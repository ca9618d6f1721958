"""A run of two processes, started by hand, and of four, as Open MPI starts them, against the same run in one."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from compile_flags import COMPILE_SOONER
from emocluster_jax.inference.model_directory import SavedModel, read_model
from emocluster_jax.training.metrics_log import read_metrics
from small_records import PER_FILE, write_records
from small_training import FEATURES, draw_recordings

TESTS = Path(__file__).resolve().parent.parent
SIZES = {"train": 25, "validation": 26, "test": 26, "unlabeled": 26}
DEADLINE_S = 600
# Two steps a stage, whose learning rates are so high that the second has something to say of the first one's gradients;
# without dropout, whose masks differ from device to device.
OPTIONS = shlex.split(
    "--attributes arousal valence --clusters 5 --width-multiplier 0.125 --dropout-rate 0 --epochs 1 --batch-size 16 "
    "--sgd-learning-rate 0.1 --adam-learning-rate 0.05 --cluster-head-learning-rate 1"
)


@dataclass(frozen=True)
class Run:
    """What a run left behind, and each process said and saw."""

    workdir: Path
    printed: list[str]
    seen: list[dict[str, Any]]

    @property
    def metrics(self) -> dict[str, Any]:
        (epoch,) = read_metrics(self.workdir / "metrics.jsonl")
        return epoch

    @property
    def assignments(self) -> dict[str, np.ndarray]:
        with np.load(self.workdir / "assignments" / "epoch-000001.npz") as stages:
            return dict(stages)

    @property
    def validation_ccc(self) -> dict[str, float]:
        return self.metrics["validation_ccc"]

    @property
    def test_ccc(self) -> dict[str, float]:
        scores = json.loads((self.workdir / "test.json").read_text())["scores"]
        return {name: score["ccc"] for name, score in scores.items()}

    @property
    def model(self) -> SavedModel:
        return read_model(self.workdir / "model")

    def rows_read(self, split: str) -> list[list[int]]:
        """By process, the recordings of a split whose records it read, each as often as it did."""
        found = []
        for seen in self.seen:
            numbers = [(re.search(rf"{split}\D*(\d+)", name), rows) for name, rows in seen["read"].items()]
            found.append([PER_FILE * int(number[1]) + row for number, rows in numbers if number for row in rows])
        return found


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    data_dir = tmp_path_factory.mktemp("data") / "records"
    splits = {split: draw_recordings(size, seed) for seed, (split, size) in enumerate(SIZES.items())}
    write_records(data_dir, FEATURES, splits)
    return data_dir


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def run(worker: str, *arguments: object) -> list[int]:
    """The exit statuses of the processes that a script beside this one forks."""
    environment = os.environ | {
        "JAX_PLATFORMS": "cpu",
        "PYTHONPATH": os.pathsep.join(map(str, (TESTS.parent, TESTS))),
        "XLA_FLAGS": COMPILE_SOONER,
    }
    command = [sys.executable, TESTS / "launch" / worker, *map(str, arguments)]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, start_new_session=True) as process:
        try:
            output, _ = process.communicate(timeout=DEADLINE_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            raise
    assert process.returncode == 0
    return json.loads(output)


@pytest.fixture(scope="module")
def runs(data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    """Of launch.train, in one process, in two, and in four that stream their chunks."""
    folder = tmp_path_factory.mktemp("runs")
    by_hand = ["--coordinator", f"127.0.0.1:{free_port()}", "--num-processes", "2", "--process-id"]
    of_all = {
        "OMPI_MCA_orte_hnp_uri": "4096.0;tcp://127.0.0.1:9",
        "OMPI_COMM_WORLD_SIZE": "4",
        "OMPI_COMM_WORLD_LOCAL_SIZE": "4",
        "JAX_COORDINATOR_PORT": str(free_port()),
    }
    ranks = [{"OMPI_COMM_WORLD_RANK": str(i), "OMPI_COMM_WORLD_LOCAL_RANK": str(i)} for i in range(4)]
    # Further options and environment variables of each process.
    processes: dict[str, list[tuple[list[str], dict[str, str]]]] = {
        "one": [(["--feed", "resident"], {})],
        "two": [(["--feed", "resident", *by_hand, str(i)], {}) for i in range(2)],
        "four": [(["--feed", "streamed"], of_all | rank) for rank in ranks],
    }
    started = [
        [
            {
                "arguments": ["--data-dir", str(data_dir), "--workdir", str(folder / name), *OPTIONS, *options],
                "environment": variables,
                "output": str(folder / f"{name}-{i}"),
            }
            for i, (options, variables) in enumerate(each)
        ]
        for name, each in processes.items()
    ]
    (folder / "runs.json").write_text(json.dumps(started))
    ended = run("watched_training.py", folder / "runs.json")
    outputs = [Path(process["output"]) for each in started for process in each]
    assert ended == [0] * len(outputs), [output.with_name(f"{output.name}.err").read_text() for output in outputs]
    return {
        name: Run(
            folder / name,
            [(folder / f"{name}-{i}").read_text() for i in range(len(each))],
            [json.loads((folder / f"{name}-{i}.json").read_text()) for i in range(len(each))],
        )
        for name, each in processes.items()
    }


@pytest.fixture(scope="module")
def one(runs: dict[str, Run]) -> Run:
    return runs["one"]


@pytest.fixture(params=["two", "four"])
def several(request: pytest.FixtureRequest, runs: dict[str, Run]) -> Run:
    return runs[request.param]


def test_every_process_reads_its_share(runs: dict[str, Run]) -> None:
    one, two, four = runs.values()
    for split, size in SIZES.items():
        # For the files that describe the test split and the clusters, process 0 reads ids and speakers in the end.
        described = list(range(size)) if split in ("train", "test") else []
        assert [sorted(rows) for rows in one.rows_read(split)] == [sorted([*range(size), *described])]
        # Resident: every recording once, in one process.
        share = (size + 1) // 2
        expected = [sorted([*range(share), *described]), list(range(share, size))]
        assert [sorted(rows) for rows in two.rows_read(split)] == expected
    for split in ("validation", "test"):
        # Streamed, and no batches are drawn: its labels, then its chunks.
        shares = np.array_split(np.arange(28), 4)
        expected = [2 * [row for row in share.tolist() if row < SIZES[split]] for share in shares]
        expected[0] += range(SIZES[split]) if split == "test" else []
        assert [sorted(rows) for rows in four.rows_read(split)] == [sorted(rows) for rows in expected]
    for split, steps in (("train", 2), ("unlabeled", 2)):
        # Besides these, for each step's batch the 16 chunks that its one device takes.
        first, *others = (len(rows) for rows in four.rows_read(split))
        first -= SIZES[split] if split == "train" else 0
        assert all(2 * 4 <= rows <= 2 * 7 + steps * 16 for rows in (first, *others))


def test_losses_clusters_and_scores_are_those_of_one_process(one: Run, several: Run) -> None:
    for stage, clusters in one.assignments.items():
        np.testing.assert_array_equal(several.assignments[stage], clusters)
    # Sums in another order: float32 rounds them by some 1e-7.
    for name in ("stage1_cross_entropy", "stage2_cross_entropy", "ccc_loss"):
        assert several.metrics[name] == pytest.approx(one.metrics[name], rel=1e-5)
    expected, found = one.model.centroids, several.model.centroids
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * np.abs(expected).max())
    # Adam's first steps are signs of gradients: what is but rounding moves a weight by the whole learning rate.
    for scores in ("validation_ccc", "test_ccc"):
        assert getattr(several, scores) == pytest.approx(getattr(one, scores), abs=2e-3)
    assert all(abs(score) > 0.01 for score in one.test_ccc.values())


def test_process_0_alone_writes_and_speaks(several: Run) -> None:
    assert "model" in several.printed[0]
    for seen, printed in zip(several.seen[1:], several.printed[1:], strict=True):
        assert seen["written"] == []
        # Gloo, which connects the processes, says so itself.
        assert all(line.startswith("[Gloo]") for line in printed.splitlines())
    assert {"run.json", "metrics.jsonl", "model", "checkpoints", "assignments", "plots", "test.json"} < {
        path.name for path in several.workdir.iterdir()
    }
    assert several.seen[0]["written"]


MEETINGS = {
    "one fails": "01",
    "all fail": "01",
    "different clocks": "01",
    "one fails later": "01",
    "0 alone": "0",
    "1 alone": "1",
}
"""What befalls the processes of a run of two, and which of them there are."""
Met = dict[str, list[tuple[int, str]]]


@pytest.fixture(scope="module")
def met(tmp_path_factory: pytest.TempPathFactory) -> Met:
    """How processes that meet, or do not, end: exit status and stderr."""
    folder = tmp_path_factory.mktemp("met")
    meetings = [f"{plot}@127.0.0.1:{free_port()}@{ids}" for plot, ids in MEETINGS.items()]
    ended = iter(run("meeting_worker.py", folder, *meetings))
    return {
        plot: [(next(ended), (folder / f"{pair}-{i}.err").read_text()) for i in ids]
        for pair, (plot, ids) in enumerate(MEETINGS.items())
    }


def test_what_fails_on_one_process_fails_on_all(met: Met) -> None:
    first, second = met["one fails"]
    assert first == (2, "error: process 1 cannot go on; its own message says why\n")
    assert second == (2, "error: file X is damaged; restore it\n")
    assert met["all fail"] == [(2, "error: the loss is NaN; lower the learning rates\n")] * 2


def test_processes_take_the_same_steps_at_a_time_whatever_their_clocks_say(met: Met) -> None:
    """Each range is a launch of a program, which all processes have to make together."""
    (status, first), (other_status, second) = met["different clocks"]
    assert (status, other_status) == (0, 0) and first == second
    ranges = [tuple(map(int, line.split())) for line in first.splitlines()]
    assert [step for begin, end in ranges for step in range(begin, end)] == 2 * list(range(50))


def test_a_process_that_fails_later_takes_the_others_along(met: Met) -> None:
    (status, _), second = met["one fails later"]
    assert second == (2, "error: file X is gone; restore it\n")
    assert status != 0


def test_processes_that_do_not_meet(met: Met) -> None:
    ((status, message),) = met["0 alone"]
    assert status == 2 and re.fullmatch(
        r"error: not all 2 processes have come to 127.0.0.1:\d+ within 2 s; .*\n", message
    )
    ((status, message),) = met["1 alone"]
    assert status == 2 and re.match(r"error: process 0 was not reached at 127.0.0.1:\d+ within 2 s.*\n", message)
