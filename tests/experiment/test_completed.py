"""A run counts as complete if what it has found is that of the settings and the data asked for."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path

import filelock
import pytest

from emocluster_jax.api.requests import FitSettings
from emocluster_jax.console import Console
from emocluster_jax.experiment.completed import is_complete
from emocluster_jax.experiment.grid import Grid, Plan, Run, Setting
from emocluster_jax.experiment.runner import run_all
from emocluster_jax.storage.json_files import sealed
from launch import train
from launch.experiment import command_for
from made_runs import make_plan, make_run

RUN = Run(Setting("emocluster", 10, 0), "arousal", 0)


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    return make_plan(Grid(("table2",), ("arousal",), (10,), (0,), 1), tmp_path / "grid", tmp_path / "data")


def test_a_runs_command_goes_on_with_it_alone(plan: Plan) -> None:
    given = ["--data-dir", str(plan.data_dir), "--workdir", "w", "--epochs", "3", "--feed", "streamed"]
    options = train.parse(command_for(plan, {"emocluster": train.parse(given)}, RUN)[3:])
    assert (options.data_dir, options.workdir, options.config) == (plan.data_dir, plan.folder(RUN), plan.config(RUN))
    assert options.running == FitSettings(resume=True, feed="streamed")
    assert options.processes.num_processes == 1


def test_a_run_is_complete_with_its_scores(plan: Plan) -> None:
    assert not is_complete(plan, RUN)
    folder = make_run(plan, RUN)
    assert is_complete(plan, RUN)
    for name in ("test.json", "test_predictions.csv", "run.json"):
        content = (folder / name).read_bytes()
        (folder / name).unlink()
        assert not is_complete(plan, RUN), name
        (folder / name).write_bytes(content)
    assert is_complete(plan, RUN)


def test_scores_of_other_settings_or_data_do_not_count(plan: Plan) -> None:
    folder = make_run(plan, RUN)
    longer = dataclasses.replace(plan.shared["emocluster"], epochs=4)
    assert not is_complete(dataclasses.replace(plan, shared={"emocluster": longer}), RUN)
    assert not is_complete(dataclasses.replace(plan, data=("other",)), RUN)
    scores = json.loads((folder / "test.json").read_text())
    valence = {"scores": {"valence": scores["scores"]["arousal"]}}
    (folder / "test.json").write_text(json.dumps(sealed(scores | valence)))
    assert not is_complete(plan, RUN)
    (folder / "test.json").write_text('{"arousal": {"ccc"')
    assert not is_complete(plan, RUN)


def test_a_run_that_another_process_has_taken_is_left_to_it(plan: Plan, capsys: pytest.CaptureFixture[str]) -> None:
    plan.folder(RUN).mkdir(parents=True)
    with filelock.FileLock(plan.folder(RUN) / ".experiment.lock"):
        assert run_all(plan, [RUN], lambda run: [sys.executable, "-c", ""], Console()) == []
    assert not (plan.folder(RUN) / "train.log").exists()
    assert f"{RUN.name}: another process is running it" in capsys.readouterr().out
