"""The commands under one name."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

from launch import COMMANDS
from launch.command import run

PROJECT = Path(__file__).resolve().parents[2]
WITHOUT_MAIN = {"__init__", "__main__", "command", "options", "signals", "streams"}
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


@pytest.mark.parametrize("name", COMMANDS)
def test_help_shows_what_an_option_takes(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", [f"{name}.py", "--help"])
    with pytest.raises(SystemExit) as end:
        run(importlib.import_module(f"launch.{name}").main)
    shown = capsys.readouterr().out
    assert end.value.code == 0 and "Example:" in shown
    assert not any(mark in shown for mark in ("None", "{[", "]}")), shown  # as tyro writes options without a default


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        ("evaluate --chekpoint run", "--chekpoint; did you mean --checkpoint?"),  # one that is required
        ("train --model.cluster 3", "--model.cluster; did you mean --clusters?"),
        ("train --data_dir data --no-freeze_regresor", "--no-freeze-regresor; did you mean --no-freeze-regressor?"),
        ("experiment --unlabelled-sizes=0", "--unlabelled-sizes; did you mean --unlabeled-sizes?"),
        ("experiment --epoch 3", "--epoch; did you mean --epochs?"),  # one that is handed on to training
        ("benchmark --xyz", "--xyz; python -m launch.benchmark --help lists them"),
    ],
)
def test_options_that_do_not_exist(
    arguments: str, hint: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    name, *rest = arguments.split()
    monkeypatch.setattr("sys.argv", [f"{name}.py", *rest])
    with pytest.raises(SystemExit) as end:
        run(importlib.import_module(f"launch.{name}").main)
    assert end.value.code == 2
    assert capsys.readouterr().err == f"error: there is no option {hint}\n"
