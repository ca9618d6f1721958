"""Holds the wheel the package and nothing else, and do its commands work where only the wheel is installed?

python .ci/check_wheel.py WHEEL

Run it by the Python of an environment into which the wheel was installed, without extras.
"""

from __future__ import annotations

import csv
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import soundfile

PROJECT = Path(__file__).resolve().parents[1]
PACKAGES = ("emocluster_jax", "launch")
KINDS = {".py", ".typed", ".html", ".css", ".js"}
RATE_HZ = 16_000
TINY = "--attributes arousal --width-multiplier 0.125 --clusters 2 --batch-size 4 --epochs 1"


def check_files(wheel: Path) -> None:
    """The files of the two packages, all of them, and what every wheel has."""
    held = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    kept = (path for package in PACKAGES for path in (PROJECT / package).rglob("*") if path.is_file())
    files = {path.relative_to(PROJECT).as_posix() for path in kept if "__pycache__" not in path.parts}
    if held != files:
        sys.exit(f"error: only in the wheel: {sorted(held - files)}; missing there: {sorted(files - held)}")
    if strange := sorted(name for name in held if Path(name).suffix not in KINDS):
        sys.exit(f"error: no code and no template, but in the wheel: {strange}")


def check_commands(folder: Path) -> None:
    """From recordings to predictions, in a folder from which the sources are not seen."""
    with (folder / "manifest.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["file", "split", "arousal"])
        for i, split in enumerate(["train"] * 6 + ["validation"] * 2 + ["test"] * 2):
            tone = np.sin(np.arange(RATE_HZ * 3 // 2) * 2 * np.pi * 200 * (i % 3 + 1) / RATE_HZ)
            soundfile.write(folder / f"{i}.wav", tone / 2, RATE_HZ)
            rows.writerow([f"{i}.wav", split, i % 3 + 1])
    emocluster = Path(sys.executable).with_name("emocluster")
    # pip was asked not to compile all that it installs: what is used is compiled once, by the first command.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    for arguments in (
        "--help",
        "prepare --corpus manifest --source . --data-dir data --workers 1 --quiet",
        f"train --data-dir data --workdir run {TINY} --quiet",
        "predict --checkpoint run/model --input . --output predictions.csv --quiet",
    ):
        command = [emocluster, *arguments.split()]
        subprocess.run(command, cwd=folder, env=environment, stdout=subprocess.DEVNULL, check=True)
    lines = (folder / "predictions.csv").read_text().splitlines()
    if lines[0] != "file,start,end,arousal" or len(lines) != 11:
        sys.exit(f"error: predictions of 10 recordings are {lines}")


if __name__ == "__main__":
    check_files(Path(sys.argv[1]))
    with tempfile.TemporaryDirectory() as folder:
        check_commands(Path(folder))
