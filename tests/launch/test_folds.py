"""Folds from the manifest to the scores, by the commands: what a run of one fold leaves, and what is refused."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile

import emocluster_jax
from emocluster_jax.console import Console
from emocluster_jax.evaluation.run_results import read_test_predictions
from emocluster_jax.inference.model_directory import read_model
from emocluster_jax.records.preparation import read_preparation
from emocluster_jax.records.reader import open_data
from emocluster_jax.reporting.html.run_files import read_run_files
from emocluster_jax.reporting.html.run_page import Extent, view_data
from emocluster_jax.training.workdir import read_run
from launch import evaluate, prepare, train
from launch.command import run
from running import call

RATE_HZ = 16_000
SPEAKERS = ("anna", "ben", "carla", "dora")
SMALL = ["--width-multiplier", "0.125", "--clusters", "3", "--batch-size", "4", "--epochs", "1"]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty tones of four speakers, two of whom are in two of the splits, and three without labels."""
    source = tmp_path_factory.mktemp("corpus")
    rng = np.random.default_rng(0)
    with (source / "manifest.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["file", "split", "speaker", "arousal"])
        for i, split in enumerate(["train"] * 10 + ["validation"] * 5 + ["test"] * 5 + ["unlabeled"] * 3):
            arousal = i % 3 + 1
            seconds = np.arange(RATE_HZ * 5 // 4) / RATE_HZ
            tone = np.sin(2 * np.pi * 200 * arousal * seconds) + 0.1 * rng.normal(size=len(seconds))
            soundfile.write(source / f"{i:02d}.wav", tone / 2, RATE_HZ)
            speaker = "dora" if i in (0, 19) else "anna" if i == 12 else SPEAKERS[min(i // 5, 3)]
            rows.writerow([f"{i:02d}.wav", split, speaker, "" if split == "unlabeled" else arousal])
    return source


def prepared(source: Path, data_dir: Path, *options: str) -> str:
    """What the command prints, to stdout and stderr."""
    where = ["--corpus", "manifest", "--source", str(source), "--data-dir", str(data_dir), "--workers", "1"]
    with contextlib.redirect_stdout(io.StringIO()) as printed, contextlib.redirect_stderr(printed):
        call(prepare, *where, *options)
    return printed.getvalue()


@pytest.fixture(scope="module")
def data_dir(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fold for each speaker; beside it lies what the command printed."""
    data_dir = tmp_path_factory.mktemp("data") / "records"
    (data_dir.parent / "printed.txt").write_text(prepared(source, data_dir, "--folds", "speakers"))
    return data_dir


@pytest.fixture(scope="module")
def workdir(data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a run that tests on ben; beside it lies what it printed."""
    workdir = tmp_path_factory.mktemp("run") / "work"
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        call(train, "--data-dir", str(data_dir), "--workdir", str(workdir), "--fold", "2", *SMALL)
    (workdir.parent / "printed.txt").write_text(printed.getvalue())
    return workdir


def refused(capsys: pytest.CaptureFixture[str], command, *arguments: object) -> str:
    """The one line that a refused command prints; its exit status must be 2."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as end:
        run(lambda: call(command, *map(str, arguments)))
    lines = capsys.readouterr().err.splitlines()
    assert end.value.code == 2 and len(lines) == 1, lines
    return lines[0]


def test_all_labelled_recordings_are_in_folds(data_dir: Path) -> None:
    preparation = read_preparation(data_dir)
    assert preparation.counts == {"train": 20, "unlabeled": 3} and preparation.folds is not None
    assert preparation.folds.speakers == tuple((speaker,) for speaker in SPEAKERS)
    assert preparation.statistics_from == "train"
    printed = (data_dir.parent / "printed.txt").read_text()
    assert "normalised by the statistics of all labelled recordings, each fold's test recordings included" in printed
    assert "The split train is in 4 folds of 4 to 6 recordings" in printed
    assert "warning: 1 speaker is in the folds and in the unlabelled pool (dora), of which every run hears" in printed


def test_a_run_trains_validates_and_tests_on_its_own_folds(workdir: Path, data_dir: Path) -> None:
    assert read_run(workdir).config.fold == 2
    printed = (workdir.parent / "printed.txt").read_text()
    test, validation = (open_data(data_dir, 2).describe(split) for split in ("test", "validation"))
    assert set(test.speakers) == {"ben"} and set(validation.speakers) == {"carla"}
    assert f"Fold 2 of 4: tests on {len(test)} recordings of ben, validates on {len(validation)}" in printed
    assert "Test, on fold 2:" in printed
    kept = read_test_predictions(workdir / "test_predictions.csv")
    assert kept.ids == tuple(test.ids)
    np.testing.assert_array_equal(kept.truth[:, 0], test.labels.of(["arousal"])[:, 0])
    # What the clusters know is about the speakers that it was trained on, and TensorBoard shows the one that it tests.
    assert json.loads((workdir / "clusters.json").read_text())["speaker"]["classes"] == 2
    (metadata,) = (workdir / "tensorboard").rglob("embeddings_metadata.tsv")
    with metadata.open(newline="") as file:
        assert {row["speaker"] for row in csv.DictReader(file, delimiter="\t")} == {"ben"}
    # Labels are normalised by those of anna and dora alone.
    labels = open_data(data_dir, 2).describe("train").labels.of(["arousal"])[:, 0]
    # Both are means of six or so float32 numbers, summed in float64.
    assert read_model(workdir / "model").label_mean == pytest.approx([labels.mean(dtype=np.float64)], rel=1e-6)


def test_evaluate_goes_by_the_runs_fold(
    workdir: Path, data_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scores = json.loads((workdir / "test.json").read_text())["scores"]
    for checkpoint in (workdir, workdir / "model"):
        call(evaluate, "--checkpoint", str(checkpoint), "--data-dir", str(data_dir), "--quiet")
        printed = capsys.readouterr()
        assert json.loads(printed.out) == scores and not printed.err
    call(evaluate, "--checkpoint", str(workdir), "--data-dir", str(data_dir), "--quiet", "--fold", "4")
    printed = capsys.readouterr()
    assert json.loads(printed.out)["arousal"]["n"] == len(open_data(data_dir, 4).describe("test"))
    assert "had --fold 2: it trained on what --fold 4 tests on, or chose its best epoch by it" in printed.err

    shutil.copytree(workdir / "model", tmp_path / "model")
    alone = ["--checkpoint", tmp_path / "model", "--data-dir", data_dir, "--quiet"]
    assert "was prepared in 4 folds; say by --fold which to test on, from 1 to 4" in refused(capsys, evaluate, *alone)
    call(evaluate, *map(str, alone), "--fold", "2")
    printed = capsys.readouterr()
    assert json.loads(printed.out) == scores and not printed.err


def test_reports_and_functions_go_by_it_too(workdir: Path, data_dir: Path) -> None:
    console = Console(quiet=True)
    view = view_data(read_run_files(workdir), data_dir, None, Extent(1000, 0, 6.0), console)
    assert set(view.train.speakers) == {"anna", "dora"} and view.sample is not None
    split_of = {"anna": "train", "dora": "train", "ben": "test", "carla": "validation"}
    assert len(view.sample.recordings) == 20
    assert all(recording.split == split_of[recording.speaker] for recording in view.sample.recordings)

    assert set(emocluster_jax.clusters(workdir, data_dir, "test", console=console).recordings.speakers) == {"ben"}
    evaluation = emocluster_jax.evaluate(workdir, data_dir, "validation", console=console)
    assert evaluation.data.fold == 2 and set(evaluation.describe().speakers) == {"carla"}


def test_a_fold_is_part_of_a_run(workdir: Path, data_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base = ["--data-dir", data_dir, "--workdir", workdir, *SMALL, "--quiet", "--resume"]
    assert "was begun with --fold 2, not 3; leave it and any preset out" in refused(capsys, train, *base, "--fold", "3")
    assert "was prepared in 4 folds; say by --fold which to test on" in refused(
        capsys, train, *base, "--preset", "paper"
    )
    assert "--fold is 5; " in refused(capsys, train, *base, "--fold", "5")
    assert "--fold is 0; expected 1 to 1000000" in refused(capsys, train, *base, "--fold", "0")


def test_a_split_with_a_speaker_on_both_sides(source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    warning = "warning: 2 speakers are in more than one of train, validation and test (anna, dora): "
    for _ in range(2):  # prepared, and used again
        (line,) = prepared(source, tmp_path / "data", "--quiet").splitlines()
        assert line.startswith(warning) and "or prepare with --folds" in line
    base = ["--data-dir", tmp_path / "data", "--workdir", tmp_path / "work", *SMALL, "--quiet"]
    assert "was prepared without folds; leave it out" in refused(capsys, train, *base, "--fold", "1")
    # More clusters than chunks are refused just after it has been said.
    with pytest.raises(SystemExit):
        run(lambda: call(train, *map(str, base), "--clusters", "1000"))
    warned, error = capsys.readouterr().err.splitlines()
    assert warned.startswith(warning) and "--clusters 1000 is more than" in error


def test_too_few_speakers_are_told_before_the_work(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = ["--corpus", "manifest", "--source", source, "--data-dir", tmp_path / "data", "--folds"]
    assert "--folds is 5, and the labelled recordings that can be used are of 4 speakers" in refused(
        capsys, prepare, *base, 5
    )
    assert "--folds is 2; expected speakers, or a number from 3 to 1000000" in refused(capsys, prepare, *base, 2)
    assert not list(tmp_path.iterdir())
