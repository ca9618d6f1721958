"""A folder of hundreds of damaged, absurd and disguised recordings, through the commands that read recordings."""

from __future__ import annotations

import csv
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import pytest

from emocluster_jax.inference.model_directory import save_model
from emocluster_jax.records.preparation import read_preparation
from emocluster_jax.records.reader import open_data
from hostile_recordings import Outcome, write_hostile_recordings
from launch.options import as_options
from small_models import small_model

PROJECT = Path(__file__).resolve().parents[2]
LIMIT_S = 300
"""Long enough on any machine for what takes seconds; a command that hangs is killed then."""
MEASURE = """
import resource, subprocess, sys
status = subprocess.run(sys.argv[2:], timeout=float(sys.argv[1])).returncode
peak_kib = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
print(f"\\n{status} {peak_kib}", file=sys.stderr)
"""


class Ended(NamedTuple):
    status: int
    stdout: str
    stderr: str
    peak_bytes: int


def run(folder: Path, module: str, *arguments: object) -> Ended:
    """Runs a command to its end, or to `LIMIT_S`, and measures its largest resident size."""
    out, err = folder / f"{module}.out", folder / f"{module}.err"
    with out.open("wb") as stdout, err.open("wb") as stderr:
        # Between: a small process, since a new one's peak starts with the size of that which started it.
        command = [sys.executable, "-c", MEASURE, str(LIMIT_S), sys.executable, "-m", module, *map(str, arguments)]
        subprocess.run(command, cwd=PROJECT, stdout=stdout, stderr=stderr, check=True)
    stderr_text, _, measured = err.read_text(errors="replace").rstrip("\n").rpartition("\n")
    status, peak_kib = map(int, measured.split())
    return Ended(status, out.read_text(), stderr_text, peak_kib * 1024)


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Outcome]]:
    folder = tmp_path_factory.mktemp("hostile") / "recordings"
    return folder, write_hostile_recordings(folder)


@pytest.fixture(scope="module")
def skipped(recordings: tuple[Path, dict[str, Outcome]], tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What preparation left out, with its reasons."""
    folder, outcomes = recordings
    place = tmp_path_factory.mktemp("prepared")
    manifest = folder / "manifest.csv"
    manifest.write_text("file,split,arousal\n" + "".join(f"{name},train,1\n" for name in outcomes))

    arguments = ("--corpus", "manifest", "--source", manifest, "--data-dir", place / "data", "--workers", 1)
    ended = run(place, "launch.prepare", *arguments)

    assert ended.status == 0, ended.stderr
    assert "Traceback" not in ended.stderr
    # TensorFlow Datasets takes a quarter of that; headers here claim up to 4 EiB.
    assert ended.peak_bytes < 1 << 30
    preparation = read_preparation(place / "data")
    assert open_data(place / "data").read("train").ids == sorted(
        outcomes.keys() - {recording.id for recording in preparation.skipped}
    )
    reasons = {recording.id: recording.reason for recording in preparation.skipped}
    assert len(reasons) == len(preparation.skipped)
    for reason in reasons.values():
        assert as_options(reason) in ended.stdout
    return reasons


def test_there_are_enough_of_them(recordings: tuple[Path, dict[str, Outcome]]) -> None:
    counts = Counter(recordings[1].values())
    assert counts["bad"] >= 200
    assert counts["good"] >= 30


def test_preparation_leaves_out_what_is_bad_and_says_why(
    recordings: tuple[Path, dict[str, Outcome]], skipped: dict[str, str]
) -> None:
    outcomes = recordings[1]
    used = outcomes.keys() - skipped.keys()
    assert {name for name in used if outcomes[name] == "bad"} == set()
    assert {name for name in skipped if outcomes[name] == "good"} == set()
    assert all(reason and reason.isprintable() and len(reason) < 100 for reason in skipped.values())


@pytest.mark.parametrize(
    ("beginning", "reason"),
    [
        ("cut-", "truncated|not audio|no samples"),
        ("claims-", "truncated|longer than"),
        ("no-audio-empty", "empty file"),
        ("no-audio-png", "not audio"),
        ("field-rate-1.", "a sample rate of 1 Hz"),
        ("samples-silent", "silent"),
        ("samples-nan", "NaN or infinite"),
        ("samples-inf", "NaN or infinite"),
        ("samples-cancel", "silent"),
        ("short-0", "no samples|truncated|empty file"),
    ],
)
def test_reasons_say_what_is_wrong(skipped: dict[str, str], beginning: str, reason: str) -> None:
    reasons = {name: text for name, text in skipped.items() if name.startswith(beginning)}
    assert reasons
    wrong = {name: text for name, text in reasons.items() if not any(part in text for part in reason.split("|"))}
    assert wrong == {}


def test_prediction_leaves_out_the_same(
    recordings: tuple[Path, dict[str, Outcome]], skipped: dict[str, str], tmp_path: Path
) -> None:
    folder, outcomes = recordings
    save_model(tmp_path / "model", small_model())
    output = tmp_path / "out.csv"

    ended = run(tmp_path, "launch.predict", "--checkpoint", tmp_path / "model", "--input", folder, "--output", output)

    assert ended.status == 0, ended.stderr
    assert "Traceback" not in ended.stderr
    assert ended.peak_bytes < 2 << 30
    with output.open(newline="") as file:
        rows = [row["file"] for row in csv.DictReader(file)]
    assert rows == sorted(outcomes.keys() - skipped.keys())
    for name, reason in skipped.items():
        assert as_options(f"skipped {name!r}: {reason}") in ended.stderr
