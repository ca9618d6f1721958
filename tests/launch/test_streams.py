"""Commands whose stdin, stdout and stderr are full, closed, or lead to nobody."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from emocluster_jax.inference.model_directory import save_model
from small_models import noise, small_model, write_recording
from small_records import write_records
from small_training import FEATURES, draw_recordings

PROJECT = Path(__file__).resolve().parents[2]
DEADLINE_S = 120

FULL = "error: not all output could be printed (stdout: No space left on device); all else is done\n"
SAYS_BOTH = """
import os, sys
from contextlib import suppress
from launch.command import run
def main():
    with open(sys.argv[1], "w") as file:
        print("result", flush=True)
        print("more")
        print("note", file=sys.stderr)
        for descriptor in (1, 2):  # as libraries in C++ print
            with suppress(OSError):
                os.write(descriptor, b"stray")
        os.system(f"{sys.executable} -c 'input()' 2>/dev/null")
        file.write("whole")
run(main)
"""


def redirected(redirection: str, *command: object) -> subprocess.CompletedProcess[str]:
    """Runs a command as a shell does that is told to redirect what it reads and writes."""
    line = ["sh", "-c", f'exec "$@" {redirection}', "sh", *map(str, command)]
    return subprocess.run(line, cwd=PROJECT, capture_output=True, text=True, timeout=DEADLINE_S)


def into_closed_pipe(*command: object) -> subprocess.CompletedProcess[str]:
    """Runs a command whose stdout nobody reads any more."""
    reader, writer = os.pipe()
    os.close(reader)
    try:
        return subprocess.run(
            [*map(str, command)],
            cwd=PROJECT,
            stdout=writer,
            stderr=subprocess.PIPE,
            text=True,
            timeout=DEADLINE_S,
        )
    finally:
        os.close(writer)


@pytest.mark.parametrize(
    ("redirection", "status", "errors"),
    [
        (">/dev/full", 3, f"note\nstray{FULL}"),
        (">/dev/full 2>/dev/full", 3, ""),
        ("2>/dev/full", 3, ""),
        (">&-", 0, "note\nstray"),
        ("2>&-", 0, ""),
        ("<&- >&- 2>&-", 0, ""),
        ("<&-", 0, "note\nstray"),
    ],
)
def test_the_work_is_done_wherever_the_text_goes(tmp_path: Path, redirection: str, status: int, errors: str) -> None:
    result = redirected(redirection, sys.executable, "-c", SAYS_BOTH, tmp_path / "file")
    assert (result.returncode, result.stderr) == (status, errors)
    assert (tmp_path / "file").read_text() == "whole"
    printed = "" if redirection[:2] == ">/" or " >&-" in f" {redirection}" else "result\nmore\n"
    assert result.stdout.replace("stray", "") == printed


def test_a_reader_that_has_gone_ends_nothing(tmp_path: Path) -> None:
    result = into_closed_pipe(sys.executable, "-c", SAYS_BOTH, tmp_path / "file")
    assert (result.returncode, result.stderr) == (3, "note\nstray")
    assert (tmp_path / "file").read_text() == "whole"


def test_characters_that_stdout_lacks_are_escaped() -> None:
    code = "from launch.command import run\nrun(lambda: print('é \\udcff'))"
    for encoding, printed in (("ascii", b"\\xe9 \\udcff\n"), ("utf-8", "é \\udcff\n".encode())):
        environment = os.environ | {"PYTHONIOENCODING": encoding}
        result = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=DEADLINE_S, env=environment)
        assert (result.returncode, result.stdout, result.stderr) == (0, printed, b"")


def test_stdout_that_does_not_wait_is_waited_for() -> None:
    """As a program leaves it that shares the pipe or terminal."""
    code = "from launch.command import run\nrun(lambda: print('x' * 1_000_000))"
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    process = subprocess.Popen([sys.executable, "-c", code], stdout=writer, stderr=subprocess.PIPE)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        assert len(pipe.read()) == 1_000_001
    _, errors = process.communicate(timeout=DEADLINE_S)
    assert (process.returncode, errors) == (0, b"")


@pytest.mark.parametrize("arguments", [["-m", "launch"], ["-m", "launch.evaluate", "--help"]])
def test_help_that_is_lost_is_no_success(arguments: list[str]) -> None:
    result = redirected(">/dev/full", sys.executable, *arguments)
    assert (result.returncode, result.stderr) == (3, FULL)
    assert into_closed_pipe(sys.executable, *arguments).returncode == 3


@pytest.mark.parametrize("redirection", ["2>/dev/full", ">&- 2>&-"])
def test_errors_keep_their_status_without_stderr(redirection: str) -> None:
    assert redirected(redirection, sys.executable, "-m", "launch.evaluate", "--split", "tset").returncode == 2


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model, prepared records that go with it, and recordings."""
    folder = tmp_path_factory.mktemp("streams")
    write_records(folder / "records", FEATURES, {"train": draw_recordings(6, 0), "test": draw_recordings(6, 1)})
    statistics = {"feature_mean": np.zeros(32, np.float32), "feature_std": np.ones(32, np.float32)}
    save_model(folder / "model", small_model(("arousal", "dominance", "valence"), features=FEATURES, **statistics))
    (folder / "speech").mkdir()
    for number in range(2):
        write_recording(folder / "speech" / f"{number}.wav", noise(1.0, seed=number))
    return folder


@pytest.mark.parametrize("redirection", [">/dev/full", "<&- >&- 2>&-"])
def test_predictions_are_written_wherever_the_text_goes(folder: Path, tmp_path: Path, redirection: str) -> None:
    given = ["--checkpoint", folder / "model", "--input", folder / "speech", "--output", tmp_path / "table.csv"]
    command = [sys.executable, "-m", "launch.predict", *given, "--embeddings", tmp_path / "embeddings.npz"]
    result = redirected(redirection, *command)
    assert result.returncode == (0 if "&-" in redirection else 3)
    if redirection == ">/dev/full":
        assert result.stderr.endswith(FULL)
    assert len((tmp_path / "table.csv").read_text().splitlines()) == 3
    with np.load(tmp_path / "embeddings.npz") as written:
        assert len(written["file"]) == 2


def test_scores_are_written_though_nobody_reads_the_table(folder: Path, tmp_path: Path) -> None:
    given = ["--checkpoint", folder / "model", "--data-dir", folder / "records", "--output", tmp_path / "scores.json"]
    result = into_closed_pipe(sys.executable, "-m", "launch.evaluate", *given)
    assert result.returncode == 3 and "error" not in result.stderr
    assert "dominance" in (tmp_path / "scores.json").read_text()
