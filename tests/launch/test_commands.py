"""The commands under one name."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from launch.__main__ import COMMANDS

PROJECT = Path(__file__).resolve().parents[2]
WITHOUT_MAIN = {"__init__", "__main__", "command", "signals", "train_arguments"}
STARTS = [[sys.executable, "-m", "launch"], [str(Path(sys.executable).with_name("emocluster"))]]


def call(start: list[str], *arguments: str) -> subprocess.CompletedProcess[str]:
    if not Path(start[0]).exists():
        pytest.skip("the project is not installed in this environment, so it has no console script")
    return subprocess.run([*start, *arguments], cwd=PROJECT, capture_output=True, text=True, timeout=120)


def test_every_command_is_listed() -> None:
    modules = {path.stem for path in (PROJECT / "launch").glob("*.py")}
    assert set(COMMANDS) == modules - WITHOUT_MAIN


@pytest.mark.parametrize("start", STARTS, ids=["module", "script"])
def test_the_commands_under_one_name(start: list[str]) -> None:
    listed = call(start)
    assert listed.returncode == 0 and listed.stdout == call(start, "--help").stdout
    assert all(f"\n  {name} " in listed.stdout for name in COMMANDS)
    shown = "emocluster predict" if "emocluster" in start[0] else "python -m launch.predict"
    help_of_one = call(start, "predict", "--help")
    assert help_of_one.returncode == 0
    assert f"usage: {shown}" in help_of_one.stdout and f"{shown} --checkpoint run/model" in help_of_one.stdout
    misspelt = call(start, "pretrain")
    assert (
        misspelt.returncode == 2 and misspelt.stderr == "error: there is no command 'pretrain'; did you mean train?\n"
    )
    refused = call(start, "train", "--workdir", "run")
    assert refused.returncode == 2 and refused.stderr.startswith("error: --workdir is given without --data-dir")
