"""A work directory belongs to one run."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import pytest

import emocluster_jax
from emocluster_jax.config import ModelConfig, TrainConfig
from emocluster_jax.errors import InputError
from emocluster_jax.storage.json_files import sealed
from emocluster_jax.training.workdir import SavedRun, check_joined, claim, locked, read_run

CONFIG = TrainConfig(epochs=3, model=ModelConfig(clusters=7))


def settings_and_data(run: SavedRun) -> tuple[TrainConfig, str]:
    return run.config, run.data


def test_settings_come_back(tmp_path: Path) -> None:
    claim(tmp_path, CONFIG, "fingerprint", resume=False)
    assert settings_and_data(read_run(tmp_path)) == (CONFIG, "fingerprint")
    assert read_run(tmp_path).versions["emocluster_jax"] == emocluster_jax.__version__


def complete_an_epoch(workdir: Path) -> None:
    (workdir / "checkpoints" / "epoch-000001").mkdir(parents=True)


def test_a_run_without_an_epoch_gives_way(tmp_path: Path) -> None:
    claim(tmp_path, TrainConfig(), "another", resume=False)
    claim(tmp_path, CONFIG, "fingerprint", resume=False)
    assert settings_and_data(read_run(tmp_path)) == (CONFIG, "fingerprint")


def test_a_second_run_needs_resume(tmp_path: Path) -> None:
    claim(tmp_path, CONFIG, "fingerprint", resume=False)
    complete_an_epoch(tmp_path)
    with pytest.raises(InputError, match="add `resume`"):
        claim(tmp_path, CONFIG, "fingerprint", resume=False)
    claim(tmp_path, dataclasses.replace(CONFIG, epochs=5, on_nan="skip"), "fingerprint", resume=True)
    assert (read_run(tmp_path).config.epochs, read_run(tmp_path).config.on_nan) == (5, "skip")


def test_resume_with_other_settings_or_data_names_them(tmp_path: Path) -> None:
    claim(tmp_path, CONFIG, "fingerprint", resume=False)
    complete_an_epoch(tmp_path)
    other = dataclasses.replace(CONFIG, model=ModelConfig(clusters=8))
    with pytest.raises(InputError, match=r"begun with `clusters=7`, not 8; leave it and any preset out"):
        claim(tmp_path, other, "fingerprint", resume=True)
    with pytest.raises(InputError, match="other data"):
        claim(tmp_path, CONFIG, "another", resume=True)
    claim(tmp_path, dataclasses.replace(CONFIG, ccc_weight=1), "fingerprint", resume=True)  # as its default, 1.0
    assert settings_and_data(read_run(tmp_path)) == (CONFIG, "fingerprint")


def test_what_tells_the_files_of_a_run_from_another_runs(tmp_path: Path) -> None:
    def id_of(config: TrainConfig, data: str = "fingerprint", initial: str | None = None) -> str:
        claim(tmp_path, config, data, resume=False, initial_sha256=initial)
        return read_run(tmp_path).id

    first = id_of(CONFIG)
    assert id_of(dataclasses.replace(CONFIG, epochs=5, patience=2, on_nan="skip", checkpoint_minutes=1.0)) == first
    others = [id_of(dataclasses.replace(CONFIG, seed=1)), id_of(CONFIG, "another"), id_of(CONFIG, initial="abc")]
    assert len({first, *others}) == 4
    claim(tmp_path, CONFIG, "fingerprint", resume=False)
    complete_an_epoch(tmp_path)
    claim(tmp_path, dataclasses.replace(CONFIG, epochs=5), "fingerprint", resume=True)
    assert read_run(tmp_path).id == first


def test_a_run_of_an_earlier_version_can_be_read_but_not_gone_on_with(tmp_path: Path) -> None:
    claim(tmp_path, CONFIG, "fingerprint", resume=False)
    values = json.loads((tmp_path / "run.json").read_text())
    del values["id"]
    (tmp_path / "run.json").write_text(json.dumps(sealed(values | {"format_version": 1})))
    assert (read_run(tmp_path).config, read_run(tmp_path).id) == (CONFIG, "")
    complete_an_epoch(tmp_path)
    with pytest.raises(InputError, match="begun by an earlier version"):
        claim(tmp_path, CONFIG, "fingerprint", resume=True)


def test_all_processes_have_the_settings_data_and_folder_of_the_first(tmp_path: Path) -> None:
    claim(tmp_path, CONFIG, "fingerprint", resume=False)
    check_joined(tmp_path, CONFIG, "fingerprint")
    with pytest.raises(InputError, match="process 0 was started with `epochs=3`, this one with 5"):
        check_joined(tmp_path, dataclasses.replace(CONFIG, epochs=5), "fingerprint")
    with pytest.raises(InputError, match="other data than process 0"):
        check_joined(tmp_path, CONFIG, "another")
    with pytest.raises(InputError, match="on a file system that all processes share"):
        check_joined(tmp_path / "own", CONFIG, "fingerprint")


def test_scores_of_an_earlier_end_go_when_the_run_goes_on(tmp_path: Path) -> None:
    claim(tmp_path, CONFIG, "fingerprint", resume=False)
    complete_an_epoch(tmp_path)
    (tmp_path / "test.json").write_text("{}")
    with pytest.raises(InputError, match="add `resume`"):
        claim(tmp_path, CONFIG, "fingerprint", resume=False)
    assert (tmp_path / "test.json").exists()
    claim(tmp_path, dataclasses.replace(CONFIG, epochs=5), "fingerprint", resume=True)
    assert not (tmp_path / "test.json").exists()


def test_learning_rates_that_follow_the_epochs_keep_their_number(tmp_path: Path) -> None:
    cosine = CONFIG.replace(schedule="cosine")
    claim(tmp_path, cosine, "fingerprint", resume=False)
    (tmp_path / "checkpoints" / "epoch-000001").mkdir(parents=True)
    claim(tmp_path, cosine.replace(patience=1), "fingerprint", resume=True)
    with pytest.raises(InputError, match="`epochs=3`, over which `schedule=cosine` lowers its learning rates; leave"):
        claim(tmp_path, cosine.replace(epochs=5), "fingerprint", resume=True)


def test_no_fewer_epochs_than_are_done(tmp_path: Path) -> None:
    claim(tmp_path, CONFIG, "fingerprint", resume=False)
    (tmp_path / "checkpoints" / "epoch-000003").mkdir(parents=True)
    with pytest.raises(InputError, match="has completed 3 epochs, more than `epochs=2`"):
        claim(tmp_path, dataclasses.replace(CONFIG, epochs=2), "fingerprint", resume=True)
    assert settings_and_data(read_run(tmp_path)) == (CONFIG, "fingerprint")


def test_damaged_run_file(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text('{"format_version": 1, "config"')
    with pytest.raises(InputError, match="cannot be read"):
        read_run(tmp_path)


@pytest.mark.parametrize("resume", [False, True])
def test_checkpoints_whose_run_file_is_gone_are_not_taken_for_another_runs(tmp_path: Path, resume: bool) -> None:
    claim(tmp_path, CONFIG, "fingerprint", resume=False)
    complete_an_epoch(tmp_path)
    (tmp_path / "run.json").unlink()
    with pytest.raises(InputError, match=r"has checkpoints, but no run.json that says which run they are of"):
        claim(tmp_path, dataclasses.replace(CONFIG, seed=1), "fingerprint", resume=resume)
    assert not (tmp_path / "run.json").exists()


def test_only_one_process_trains(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from emocluster_jax.training.workdir import locked\n"
        "from emocluster_jax.errors import InputError\n"
        "try:\n    locked(Path(sys.argv[1])).__enter__()\nexcept InputError as error:\n    print(error)"
    )
    with locked(tmp_path):
        found = subprocess.run([sys.executable, "-c", script, tmp_path], capture_output=True, text=True, check=True)
    assert "another process is training" in found.stdout
    found = subprocess.run([sys.executable, "-c", script, tmp_path], capture_output=True, text=True, check=True)
    assert found.stdout == ""
