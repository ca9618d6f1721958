"""Commands that are killed, at instants named and drawn, and resumed until they are done: nothing shows it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path

import filelock
import numpy as np
import pytest

from emocluster_jax.inference.model_directory import model_epoch
from emocluster_jax.training.metrics_log import read_metrics
from reliability.lives import ENVIRONMENT, Blow, Life, Lives
from reliability.runs import Undisturbed, predict, prepare, prepared, train, trained

SEED = 0
FEW = 8
"""Kills of preparation, where `--kills` does not say how many."""
LONGEST_DELAY_S = 0.3


def suffer(lives: Lives, command: list[object], watched: Path, blows: Iterator[Blow]) -> list[Life]:
    """Runs the command until it is done, once for every blow that it comes to feel."""
    lived = []
    while True:
        blow = next(blows, None)
        life = lives.live(command, watched, blow)
        lived.append(life)
        assert life.status in (0, -signal.SIGKILL), life.output
        if life.status == 0:
            return lived


def drawn_blows(count: int, events: int, rng: np.random.Generator) -> Iterator[Blow]:
    """Half of them strike just before a change to a file, or as the command says what it does; half some time after."""
    for _ in range(count):
        delay_s = rng.uniform(0, LONGEST_DELAY_S) if rng.random() < 0.5 else 0.0
        yield Blow(int(rng.integers(1, events + 1)), delay_s)


def suffer_drawn(
    lives: Lives, command: list[object], folder: Path, watched: Path, events: int, kills: int, check: Callable[[], None]
) -> None:
    """Spends that many kills, over as many runs as it takes, and checks each that came to its end."""
    rng = np.random.default_rng(SEED)
    killed = completed = 0
    where: dict[str, int] = {}
    while killed < kills:
        lived = suffer(lives, command, watched, drawn_blows(kills - killed, events, rng))
        check()
        killed += len(lived) - 1
        completed += 1
        for life in lived[:-1]:
            name = "".join(c for c in (life.struck or "").split("/")[0] if not c.isdigit())
            where[name] = where.get(name, 0) + 1
        for path in folder.iterdir():
            shutil.rmtree(path)
    print(f"\n{command[0]}: {killed} kills, {completed} runs completed; struck {where}")


def test_preparation_killed_at_named_places(
    lives: Lives, recordings: Path, undisturbed_preparation: Undisturbed, tmp_path: Path
) -> None:
    places = [
        "os.rename data.preparing/.request.",
        "decoding for statistics: 16 more",
        "train-00001.spool",
        "/.statistics.",
        "writing records: 16 more",
        "train-00001.moments.npy",  # its records are written, its spool half-removed
        "finished/emocluster-train.array_record-00001",
        "finished/emocluster-validation",
        "dataset_info.json",
        ".preparation.",
        "finished -> data",
    ]
    lived = suffer(lives, prepare(recordings, tmp_path), tmp_path, iter([Blow(place) for place in places]))
    assert len(lived) == len(places) + 1, [life.struck for life in lived]
    assert prepared(tmp_path) == undisturbed_preparation.left


def test_preparation_killed_at_drawn_instants(
    lives: Lives, recordings: Path, undisturbed_preparation: Undisturbed, tmp_path: Path, kills: int | None
) -> None:
    def check() -> None:
        assert prepared(tmp_path) == undisturbed_preparation.left

    events = undisturbed_preparation.events
    suffer_drawn(lives, prepare(recordings, tmp_path), tmp_path, tmp_path, events, kills or FEW, check)


def test_training_killed_and_stopped(
    lives: Lives, records: Path, undisturbed_training: Undisturbed, tmp_path: Path
) -> None:
    """One run that all of this befalls: the long tests below in short."""
    command, workdir = train(records, tmp_path), tmp_path / "work"
    inside_kmeans = Blow("epoch 1/2: stage I: clustering", 0.02)
    assert lives.live(command, workdir, inside_kmeans).status == -signal.SIGKILL
    stop = Blow("epoch 1/2: stage II: training", signal=signal.SIGTERM)
    stopped(lives.live(command, workdir, stop), 143, workdir, "epoch-000000-stage-2-step-000001")
    writing_a_checkpoint = Blow("os.mkdir checkpoints/", 0.01)
    assert lives.live(command, workdir, writing_a_checkpoint).status == -signal.SIGKILL
    assert lives.live(command, workdir).status == 0
    assert trained(tmp_path) == undisturbed_training.left


def test_training_killed_between_checkpoint_and_model(
    lives: Lives, records: Path, undisturbed_training: Undisturbed, tmp_path: Path
) -> None:
    """What counts is what the checkpoint says, also where the run ends with the epoch that it knows of."""
    assert undisturbed_training.left["best"] == 2
    workdir = tmp_path / "work"
    assert lives.live(train(records, tmp_path), workdir, Blow("-> model/model.json")).status == -signal.SIGKILL
    assert model_epoch(workdir / "model") is None
    before_the_second = Blow("-> checkpoints/epoch-000002")
    assert lives.live(train(records, tmp_path), workdir, before_the_second).status == -signal.SIGKILL
    assert len(read_metrics(workdir / "metrics.jsonl")) == 2
    life = lives.live([*train(records, tmp_path), "--epochs", 1], workdir)
    assert life.status == 0, life.output
    left, clusters = trained(tmp_path), json.loads((workdir / "clusters.json").read_text())
    assert left["best"] == clusters["epoch"] == left["metrics"][-1]["best_epoch"] == 1
    assert left["metrics"] == undisturbed_training.left["metrics"][:1]


@pytest.mark.usefixtures("thorough")
def test_training_killed_at_named_places(
    lives: Lives, records: Path, undisturbed_training: Undisturbed, tmp_path: Path
) -> None:
    blows = [
        Blow("stage I: clustering", 0.02),
        Blow("stage II: embedding"),  # between the stages
        Blow("os.mkdir model/", 0.01),  # as the weights of the first epoch are being written
        Blow("-> model/.pending.json"),
        Blow("os.mkdir checkpoints/", 0.01),
        Blow("-> model/model.json"),
        Blow("-> checkpoints/epoch-000002"),
        Blow("os.rmdir model/weights-"),  # as the weights that were replaced are being removed
    ]
    lived = suffer(lives, train(records, tmp_path), tmp_path / "work", iter(blows))
    assert len(lived) == len(blows) + 1, [life.struck for life in lived]
    assert trained(tmp_path) == undisturbed_training.left


@pytest.mark.usefixtures("thorough")
def test_training_killed_at_drawn_instants(
    lives: Lives, records: Path, undisturbed_training: Undisturbed, tmp_path: Path, kills: int
) -> None:
    def check() -> None:
        assert trained(tmp_path) == undisturbed_training.left

    events = undisturbed_training.events
    suffer_drawn(lives, train(records, tmp_path), tmp_path, tmp_path / "work", events, kills, check)


def stopped(life: Life, status: int, workdir: Path, kept: str) -> None:
    """It ended by a line that says how to go on, and left this checkpoint."""
    assert life.status == status, life.output
    last, word = life.output.splitlines()[-1], {143: "terminated", 130: "interrupted"}[status]
    assert last.startswith(f"{word}; go on with: python -m launch.train --data-dir") and "--resume" in last
    assert max(path.name for path in (workdir / "checkpoints").iterdir()) == kept


@pytest.mark.usefixtures("thorough")
def test_training_stopped_by_signals(
    lives: Lives, records: Path, undisturbed_training: Undisturbed, tmp_path: Path
) -> None:
    """SIGTERM and Ctrl-C, within both stages and between them: each keeps the steps that were taken."""
    command = train(records, tmp_path)
    for place, number, status, kept in (
        ("epoch 1/2: stage I: training", signal.SIGTERM, 143, "epoch-000000-stage-1-step-000001"),
        ("epoch 1/2: stage II: training", signal.SIGINT, 130, "epoch-000000-stage-2-step-000001"),
        ("epoch 1/2: validation", signal.SIGTERM, 143, "epoch-000000-stage-2-step-000007"),
        ("epoch 2/2: stage II: embedding", signal.SIGTERM, 143, "epoch-000001-stage-1-step-000004"),
    ):
        life = lives.live(command, tmp_path / "work", Blow(place, signal=number))
        stopped(life, status, tmp_path / "work", kept)
    assert lives.live(command, tmp_path / "work").status == 0
    assert trained(tmp_path) == undisturbed_training.left


def test_a_second_training_refuses(lives: Lives, records: Path, tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    with filelock.FileLock(tmp_path / "work" / ".lock"):
        life = lives.live(train(records, tmp_path), tmp_path / "work")
    assert life.status == 2 and life.output.splitlines()[-1] == (
        f"error: another process is training in {tmp_path / 'work'}; wait for it or choose another --workdir"
    )


def test_a_second_signal_ends_training_at_once(lives: Lives, records: Path, tmp_path: Path) -> None:
    # The main thread waits for something that is no Python, as for XLA to compile, and hears of no signal.
    blow = Blow("stage I: clustering", 0.1, signal.SIGTERM, again_s=0.7, shell="sleep 60")
    started = time.monotonic()
    life = lives.live(train(records, tmp_path), tmp_path / "work", blow)
    assert life.status == 143 and time.monotonic() - started < 50
    assert life.output.splitlines()[-1].startswith("stopping after this step; a second signal ends at once")


def test_preparation_and_prediction_stopped_by_signals(
    lives: Lives,
    recordings: Path,
    undisturbed_preparation: Undisturbed,
    model: Path,
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    command = prepare(recordings, tmp_path)
    for number, status, word in ((signal.SIGTERM, 143, "terminated"), (signal.SIGINT, 130, "interrupted")):
        life = lives.live(command, tmp_path, Blow("writing records: 16 more", signal=number))
        assert life.status == status, life.output
        assert life.output.splitlines()[-1].startswith(
            f"{word}; go on with: python -m launch.prepare --corpus manifest"
        )
    assert lives.live(command, tmp_path).status == 0
    assert prepared(tmp_path) == undisturbed_preparation.left
    # So many that prediction is not done before a busy machine has sent the signal.
    many = tmp_path_factory.mktemp("many")
    for path, copy in product(recordings.rglob("*.*"), range(20)):
        os.link(path, many / f"{copy}-{path.name}")
    output = tmp_path / "table.csv"
    for number, status, word in ((signal.SIGTERM, 143, "terminated"), (signal.SIGINT, 130, "interrupted")):
        command = predict(model, many, output)
        life = lives.live(command, tmp_path, Blow("predicting: 1 more", signal=number))
        assert life.status == status and life.output.splitlines()[-1] == word, life.output
    assert [path.name for path in tmp_path.iterdir()] == ["data"]  # no part of a table


@pytest.mark.usefixtures("thorough")
def test_several_processes_stop_together(records: Path, tmp_path: Path) -> None:
    """Only one of two processes gets SIGTERM; both leave after the same step, and process 0 writes the checkpoint."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    command = [sys.executable, "-m", "launch.train", *map(str, train(records, tmp_path)[1:]), "--epochs", "500"]
    join = ["--coordinator", address, "--num-processes", "2", "--process-id"]
    running = [
        subprocess.Popen([*command, *join, str(i)], env=ENVIRONMENT, stderr=subprocess.PIPE, text=True)
        for i in range(2)
    ]
    metrics = tmp_path / "work" / "metrics.jsonl"
    deadline = time.monotonic() + 120
    while not (metrics.exists() and metrics.read_text()) and time.monotonic() < deadline:
        time.sleep(0.2)
    running[1].send_signal(signal.SIGTERM)
    errors = [process.communicate(timeout=120)[1] for process in running]
    assert [process.returncode for process in running] == [130, 143], errors
    assert "interrupted; go on with: python -m launch.train" in errors[0]
    assert max(path.name for path in (tmp_path / "work" / "checkpoints").iterdir()) >= "epoch-000001"
