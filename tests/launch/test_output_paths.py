"""Where results go is found out before the work: nothing that a command reads is there, and it names the output."""

from __future__ import annotations

import csv
import importlib
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from emocluster_jax.errors import InputError
from emocluster_jax.records.preparation import read_preparation
from emocluster_jax.records.reader import open_data
from launch import prepare
from running import call
from small_models import noise, write_recording

PROJECT = Path(__file__).resolve().parents[2]
LONG = "x" * 256


@pytest.mark.parametrize(
    ("command", "arguments"),
    [
        ("predict", "--checkpoint no --input no --output OUT"),
        ("predict", "--checkpoint no --input no --output a.csv --embeddings OUT"),
        ("evaluate", "--checkpoint no --data-dir no --output OUT"),
        ("report", "--workdir . --output OUT"),
        ("calibrate", "--checkpoint no --data-dir no --output OUT"),
        ("export", "--checkpoint no --output OUT"),
        ("import_torch", "--weights no --norm no --attribute arousal --output OUT"),
        ("prepare", "--corpus manifest --source no --data-dir OUT"),
        ("prepare", "--corpus demo --source OUT --data-dir data"),
        ("train", "--data-dir . --workdir OUT"),
        ("experiment", "--preset table1 --data-dir no --workdir OUT"),
        ("benchmark", "train --output OUT"),
    ],
)
@pytest.mark.parametrize("output", [LONG, "/proc/out"])
def test_outputs_are_tried_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str, arguments: str, output: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError) as error:
        call(importlib.import_module(f"launch.{command}"), *arguments.replace("OUT", output).split())
    option = arguments[: arguments.index("OUT")].split()[-1]
    assert option in str(error.value) and output in str(error.value)
    assert ("File name too long" if output == LONG else "No such file or directory") in str(error.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "arguments",
    [
        ("predict", "--input", "a.wav", "--output", "a.csv", "--checkpoint", LONG),
        ("predict", "--checkpoint", "model", "--output", "a.csv", "--input", "a.wav", LONG),
        ("train", "--data-dir", LONG, "--workdir", "run"),
        ("train", "--data-dir", ".", "--workdir", "run", "--config", LONG),
        ("report", "--workdir", LONG),
        ("prepare", "--corpus", "manifest", "--data-dir", "data", "--source", LONG),
    ],
)
def test_inputs_that_cannot_be_looked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=f"--[a-z-]+ {LONG}.*File name too long"):
        call(importlib.import_module(f"launch.{arguments[0]}"), *arguments[1:])


def test_what_is_closed_to_this_user() -> None:
    """Told by the system, not by modes: folders that another user may look into, but not write to, or not even that."""
    if os.geteuid():
        pytest.skip("only root can become another user")
    code = """
import os
from pathlib import Path
from emocluster_jax.storage.disk import check_output_file, check_output_folder, check_path
os.setresuid(12345, 12345, 12345)
for check, path in (
    (check_output_file, "open/a.csv"),
    (check_output_file, "open/theirs.csv"),
    (check_output_folder, "open/run"),
    (check_path, "closed/a.wav"),
    (check_output_file, "closed/a.csv"),
    (check_output_folder, "closed/run"),
):
    try:
        check("-o", Path(path))
    except Exception as error:
        print(type(error).__name__, error)
"""
    # pytest's own folder is closed to others.
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        folder = Path(name)
        folder.chmod(0o755)
        (folder / "open").mkdir(mode=0o755)
        (folder / "open" / "theirs.csv").touch(mode=0o644)
        (folder / "closed").mkdir(mode=0o700)
        environment = os.environ | {"PYTHONPATH": str(PROJECT)}
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, cwd=folder)
    assert done.stdout.splitlines() == [
        "InputError -o open/a.csv: the folder open cannot be written to (Permission denied); give another",
        "InputError -o open/theirs.csv is write-protected; remove it, or give another name",
        "InputError cannot write to open/run (Permission denied); choose another -o",
        "InputError -o closed/a.wav: Permission denied; give another path",
        "InputError -o closed/a.csv: Permission denied; give another path",
        "InputError -o closed/run: Permission denied; give another path",
    ], done.stderr


def test_names_of_any_length_and_any_bytes_are_prepared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, data_dir = tmp_path / os.fsdecode(b"a\xff\nb"), tmp_path / ("音" * 85)
    written = tmp_path / "written"
    written.mkdir()
    with (written / "manifest.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["file", "split", "arousal"])
        for i, split in enumerate(("train", "train", "validation", "test")):
            write_recording(written / f"{i}.wav", noise(1.1, seed=i))
            rows.writerow([f"{i}.wav", split, i])
    written.rename(source)  # libsndfile's Python would not write there
    arguments = ["--corpus", "manifest", "--source", str(source), "--data-dir", str(data_dir), "--workers", "1"]
    call(prepare, *arguments)
    call(prepare, *arguments)
    assert "holds these recordings already" in capsys.readouterr().out
    assert sorted(tmp_path.iterdir()) == sorted([source, data_dir])
    assert read_preparation(data_dir).source == str(source)
    data_dir.rename(tmp_path / os.fsdecode(b"\xff"))
    with pytest.raises(InputError, match="needs a name in UTF-8; rename it"):
        open_data(tmp_path / os.fsdecode(b"\xff")).describe("train", [0])
