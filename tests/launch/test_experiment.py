"""A grid of two runs through the command: killed, resumed, failing, complete; and what the command refuses."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from emocluster_jax.config import ModelConfig, TrainConfig
from emocluster_jax.records.folds import Folds
from emocluster_jax.records.preparation import read_preparation
from emocluster_jax.training.metrics_log import read_metrics
from emocluster_jax.training.workdir import claim, is_locked, locked
from launch import experiment
from launch.command import run
from launch.experiment import Options, options_by_system
from small_records import write_records
from small_training import FEATURES, draw_recordings

PROJECT = Path(__file__).resolve().parents[2]
DEADLINE_S = 240
BOTH, UNSUPERVISED = "emocluster-k3-u0-arousal-seed0", "emocluster-k3-u0-unsupervised-arousal-seed0"
GRID = ["--preset", "figure3", "--attributes", "arousal", "--clusters", "3", "--trials", "1"]
SMALL = ["--width-multiplier", "0.0625", "--batch-size", "4", "--epochs", "4", "--patience", "4"]


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    data_dir = tmp_path_factory.mktemp("data") / "records"
    sizes = {"train": 12, "validation": 6, "test": 8}
    write_records(data_dir, FEATURES, {split: draw_recordings(n, seed=n) for split, n in sizes.items()})
    return data_dir


def call(*arguments: object) -> int:
    """The exit status of the command, in this process; what it starts runs from the project's folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["experiment", *map(str, arguments)])
        patch.chdir(PROJECT)
        try:
            run(experiment.main)
        except SystemExit as end:
            return int(end.code or 0)
    return 0


def kill_after_an_epoch(
    arguments: list[str], metrics: Path, number: signal.Signals = signal.SIGTERM
) -> subprocess.CompletedProcess[str]:
    """Starts the command and sends it a signal once a run has logged an epoch."""
    command = [sys.executable, "-m", "launch.experiment", *arguments]
    process = subprocess.Popen(command, cwd=PROJECT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + DEADLINE_S
    while not (metrics.exists() and metrics.read_text().count("\n")):
        if process.poll() is not None or time.monotonic() > deadline:
            process.terminate()
            pytest.fail(f"no epoch was logged: {process.communicate(timeout=DEADLINE_S)}")
        time.sleep(0.02)
    process.send_signal(number)
    out, errors = process.communicate(timeout=DEADLINE_S)
    return subprocess.CompletedProcess(command, process.returncode, out, errors)


def test_a_grid_is_killed_resumed_and_completed(
    data_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [*GRID, "--data-dir", str(data_dir), "--workdir", str(tmp_path), *SMALL]
    first, second = tmp_path / "runs" / UNSUPERVISED, tmp_path / "runs" / BOTH

    killed = kill_after_an_epoch(arguments, first / "metrics.jsonl")
    assert killed.returncode == 143 and "the same command goes on from here" in killed.stderr
    # Had the run outlived the command, it would go on logging; had it ended, there would be scores.
    epochs = len(read_metrics(first / "metrics.jsonl"))
    assert 1 <= epochs < 4 and not (first / "test.json").exists() and not second.exists()

    # A run of other settings stands where the second one is to be.
    second.mkdir()
    claim(second, TrainConfig(), read_preparation(data_dir).fingerprint, resume=False)
    (second / "checkpoints" / "epoch-000001").mkdir(parents=True)
    assert call(*arguments) == 2
    out, errors = capsys.readouterr()
    assert f"{UNSUPERVISED}: test CCC" in out and "1 of 2 runs are missing" in out
    assert f"{BOTH} failed" in errors and "was begun with --clusters 10, not 3" in errors
    assert "1 of 2 runs failed" in errors.splitlines()[-1]
    assert [line["epoch"] for line in read_metrics(first / "metrics.jsonl")] == [1, 2, 3, 4]
    assert (first / "train.log").read_text().count("$ ") == 2
    assert [row["seed"] for row in rows_of(tmp_path / "results.csv")] == ["0"]

    (second / "checkpoints" / "epoch-000001").rmdir()
    assert call(*arguments) == 0
    out, _ = capsys.readouterr()
    assert "1 of 2 runs are complete already" in out and "missing" not in out
    results = {row["workdir"]: row for row in rows_of(tmp_path / "results.csv")}
    for name in (UNSUPERVISED, BOTH):
        scores = json.loads((tmp_path / "runs" / name / "test.json").read_text())["scores"]
        assert results[f"runs/{name}"]["test_ccc"] == (
            "" if scores["arousal"]["ccc"] is None else str(scores["arousal"]["ccc"])
        )
    assert (first / "train.log").read_text().count("$ ") == 2

    written = {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").rglob("*")}
    assert call(*arguments) == 0
    assert "2 of 2 runs are complete already" in capsys.readouterr().out
    assert written == {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").rglob("*")}

    # More epochs are asked for: nothing is complete any more.
    assert call(*arguments[:-4], "--epochs", "5", "--list") == 0
    out, _ = capsys.readouterr()
    assert out.count("4 of 5 epochs") == 2 and "2 runs, 0 complete" in out


def test_a_killed_grid_leaves_nothing_running_and_passes_over_what_others_train(
    data_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    long = [*SMALL[:-4], "--epochs", "100000"]
    arguments = [*GRID, "--data-dir", str(data_dir), "--workdir", str(tmp_path), *long, "--shard", "1/2"]
    folder = tmp_path / "runs" / UNSUPERVISED
    killed = kill_after_an_epoch(arguments, folder / "metrics.jsonl", signal.SIGKILL)
    assert killed.returncode == -signal.SIGKILL
    deadline = time.monotonic() + DEADLINE_S
    while is_locked(folder):  # by the run, until it has ended, too
        assert time.monotonic() < deadline, "the run has outlived the command"
        time.sleep(0.02)

    with locked(folder):  # as if somebody trained there
        assert call(*arguments) == 0
    out, errors = capsys.readouterr()
    assert f"[1/1] {UNSUPERVISED}: another process is running it" in out and "2 of the grid's runs are missing" in out
    assert "failed" not in errors


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_list_shows_shards(data_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--preset", "all", "--data-dir", data_dir, "--workdir", tmp_path / "no", "--trials", "2", "--list"]
    names = []
    for shard in ("1/1", "1/2", "2/2"):
        assert call(*arguments, "--shard", shard) == 0
        out, errors = capsys.readouterr()
        assert "without unlabelled recordings all runs are supervised" in errors
        names.append({line.split()[0] for line in out.splitlines() if "to do" in line})
    # Three attributes of two trials: five systems, K = 20 and 30; and stage I alone for arousal.
    assert len(names[0]) == 2 * (3 * 7 + 1) and names[1] | names[2] == names[0] and not names[1] & names[2]
    assert not (tmp_path / "no").exists()


def test_folds_have_a_preset_of_their_own(tmp_path: Path, capsys: pytest.CaptureFixture[str], data_dir: Path) -> None:
    folded = tmp_path / "folded"
    folds = Folds((("anna",), ("ben",), ("carla",)), (1, 2, 3) * 4)
    write_records(folded, FEATURES, {"train": draw_recordings(12, seed=1), "unlabeled": draw_recordings(8, 2)}, folds)
    base = ["--workdir", tmp_path / "no", "--trials", "2", "--clusters", "3", "--list"]
    assert call("--preset", "folds", "--data-dir", folded, *base) == 0
    names = {line.split()[0] for line in capsys.readouterr().out.splitlines() if "to do" in line}
    assert len(names) == 2 * 3 * 2 * 3 and "emocluster-k3-u8-valence-fold3-seed1" in names
    for preset, where, message in (
        (["folds"], data_dir, f"--preset folds needs folds, which {data_dir} does not have; prepare it with --folds"),
        (["table1"], folded, f"{folded} was prepared in folds; give --preset folds alone, or prepare it without"),
        (["all", "folds"], folded, "give --preset folds alone"),
        (["ablation", "table1"], data_dir, "--preset ablation has other settings than the other tables; give it alone"),
        (["folds", "--fold", "1"], folded, "--fold cannot be given here: --preset folds tests on every fold"),
    ):
        assert call("--preset", *preset, "--data-dir", where, *base) == 2
        assert message in capsys.readouterr().err.splitlines()[-1]


def test_options_of_one_system_are_handed_to_it_alone(data_dir: Path, tmp_path: Path) -> None:
    arguments = ["--epochs", "3", "--no-freeze-regressor", "--kl_weight=0.5", "--denoising-weights", *"123456789"]
    options = Options(("all",), data_dir, tmp_path, passed_on=tuple(arguments))
    shared = options_by_system(options, ["emocluster", "cnn_regressor", "cnn_vae", "ladder"])
    assert shared["cnn_regressor"].config == TrainConfig(ModelConfig("cnn_regressor"), epochs=3)
    assert shared["cnn_vae"].config.autoencoder.kl_weight == 0.5
    assert shared["ladder"].config.ladder.denoising_weights == tuple(range(1, 10))
    assert all(of.config.epochs == 3 for of in shared.values())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--shard", "3/2"], "--shard is 3/2; expected I/N"),
        (["--trials", "0"], "--trials is 0"),
        (["--clusters", "0"], "--clusters is 0"),
        (["--unlabeled-sizes", "0", "9"], "has 0 to 0 unlabelled recordings"),
        (["--seed", "3"], "--seed cannot be given here: give --trials"),
        (["--model=ladder"], "--model cannot be given here"),
        (["--kl-weight", "2"], "belongs to --model cnn_vae, which is not trained here"),
        (["--epochs", "0"], "--epochs is 0"),
        (["--data-dir", "no"], "no data directory at no"),
    ],
)
def test_what_is_refused(
    data_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    base = ["--preset", "table2", "--data-dir", data_dir, "--workdir", tmp_path / "no"]
    assert call(*base, *arguments) == 2
    assert message in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "no").exists()


def test_unknown_options_are_named(data_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("--preset", "table1", "--data-dir", data_dir, "--workdir", tmp_path / "no", "--epoch", "3") == 2
    assert "--epoch" in capsys.readouterr().err


def test_help_without_heavy_imports() -> None:
    code = """
import sys
from launch import experiment
sys.argv = ["experiment", "--help"]
try:
    experiment.main()
finally:
    print("heavy:", sorted({"jax", "flax", "scipy", "tensorflow_datasets", "matplotlib"} & set(sys.modules)))
"""
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, timeout=DEADLINE_S, env=os.environ
    )
    assert result.returncode == 0 and "heavy: []" in result.stdout and "--unlabeled-sizes" in result.stdout
