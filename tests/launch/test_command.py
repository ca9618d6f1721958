"""How every command reads its options and ends."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
import termios
from contextlib import suppress

import pytest

from emocluster_jax.config import ModelConfig, TrainConfig
from launch import predict
from launch.options import parse

DEADLINE_S = 60


def python(code: str, **options) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=DEADLINE_S, **options)


def options(*args: str, default: TrainConfig | None = None) -> TrainConfig:
    return parse(TrainConfig, "train", "Trains.", "--epochs 5", default=default, args=args)


def test_an_option_that_is_on_off_or_not_given():
    def remove_dc(*args: str) -> bool | None:
        given = ["--checkpoint", "m", "--input", "a", "--output", "o", *args]
        return parse(predict.Options, "predict", "Predicts.", "--quiet", args=given).prediction.remove_dc

    assert remove_dc() is None
    assert remove_dc("--remove-dc") is remove_dc("--remove-dc", "yes") is remove_dc("--remove-dc", "--quiet") is True
    assert remove_dc("--remove-dc", "no") is False
    with pytest.raises(SystemExit):
        remove_dc("--remove-dc", "maybe")


def test_input_error_is_one_line_and_status_2():
    code = "from launch.command import run; from emocluster_jax.errors import InputError\n"
    result = python(code + "def main(): raise InputError('no such\\nfolder')\nrun(main)")
    assert (result.returncode, result.stderr, result.stdout) == (2, "error: no such\\nfolder\n", "")


def test_a_defect_keeps_its_traceback():
    result = python("from launch.command import run\ndef main(): raise ValueError('defect')\nrun(main)")
    assert result.returncode == 1
    assert "Traceback" in result.stderr and "ValueError: defect" in result.stderr


def test_deterministic_algorithms_are_asked_of_an_xla_that_knows_of_them(tmp_path):
    """An option that XLA does not know would abort the process; those it got are in what it writes of each program."""
    code = (
        "import sys\nimport jax\nfrom emocluster_jax.runtime import parallel\nfrom launch import train\n"
        "parallel.start_processes = lambda processes: (jax.jit(lambda x: x + 1)(1.0), sys.exit())\n"
        "train.main()\n"
    )
    for given in (["--deterministic"], []):
        folder = tmp_path / str(len(given))
        environment = os.environ | {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": f"--xla_dump_to={folder}"}
        command = [sys.executable, "-c", code, "--data-dir", tmp_path, "--workdir", tmp_path / "run", *given]
        result = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S, env=environment)
        assert result.returncode == 0, result.stderr
        written = [path.read_text() for path in folder.glob("*.debug_options")]
        assert written and all(("xla_gpu_deterministic_ops: true" in text) == bool(given) for text in written)


def interrupted(code: str) -> tuple[int, str]:
    """How a process ends that is interrupted when it says that it is ready: status and stderr."""
    # A shell starts background jobs, such as this whole test run, with the interrupt ignored, and children inherit it.
    code = (
        "from launch.command import run\nimport signal, threading, time\n"
        f"signal.signal(signal.SIGINT, signal.default_int_handler)\n{code}"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=DEADLINE_S)
    return process.returncode, errors


def test_interrupt_is_one_line_and_status_130():
    code = "def main():\n  print('ready', flush=True)\n  time.sleep(600)\nrun(main)"
    assert interrupted(code) == (130, "interrupted\n")


def test_interrupted_work_that_does_not_end_is_broken_off():
    code = """
def main():
    taken = threading.Lock()
    with taken:
        thread = threading.Thread(target=taken.acquire)
        thread.start()
        try:
            print("ready", flush=True)
            time.sleep(600)
        finally:
            thread.join()
run(main, patience_s=0.5)"""
    assert interrupted(code) == (130, "the work has not ended within 0.5 s and is broken off\n")


def test_an_interrupt_within_a_finalizer_is_not_lost():
    code = """
class Finalized:
    def __del__(self):
        print("ready", flush=True)
        time.sleep(600)
def main():
    Finalized()
    time.sleep(600)
run(main)"""
    assert interrupted(code) == (130, "interrupted\n")


def test_what_fails_by_an_interrupt_is_no_defect():
    code = """
def main():
    try:
        print("ready", flush=True)
        time.sleep(600)
    finally:
        raise RuntimeError("cannot release un-acquired lock")
run(main)"""
    assert interrupted(code) == (130, "interrupted\n")


def test_a_reader_that_has_gone_gives_no_traceback():
    code = "from launch.command import run\ndef main():\n  for i in range(100000): print(i)\nrun(main)"
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stderr is not None
    process.stdout.readline()
    process.stdout.close()
    errors = process.stderr.read()
    process.stderr.close()
    assert process.wait(timeout=DEADLINE_S) == 3
    assert errors == ""


def test_nested_settings_are_flat_options():
    parsed = options("--clusters", "20", "--attributes", "arousal", "valence", "--epochs", "3", "--freeze-regressor")
    assert parsed.model == ModelConfig(clusters=20, attributes=("arousal", "valence"))
    assert parsed.epochs == 3 and parsed.optimizer.freeze_regressor
    assert options() == TrainConfig()
    assert options("--patience", "none", default=TrainConfig(patience=3)) == TrainConfig()


def test_options_change_only_what_they_name_in_a_preset():
    preset = TrainConfig(epochs=8, model=ModelConfig(width_multiplier=0.25))
    assert options("--clusters", "5", default=preset) == TrainConfig(
        epochs=8, model=ModelConfig(width_multiplier=0.25, clusters=5)
    )


@pytest.mark.parametrize(
    ("args", "named"),
    [
        (["--clusters", "many"], "--clusters"),
        (["--compute-dtype", "float8"], "bfloat16"),
        (["--patience", "None"], "--patience"),
    ],
)
def test_wrong_options_are_named_and_status_2(capsys, args, named):
    with pytest.raises(SystemExit) as ended:
        options(*args)
    assert ended.value.code == 2
    assert named in capsys.readouterr().err


def test_help_shows_what_where_and_an_example_without_heavy_imports():
    code = """
import sys
from emocluster_jax.config import TrainConfig
from launch import predict
from launch.options import parse
try:
    parse(TrainConfig, "train", "Trains a model.", "--clusters 20", args=["--help"])
finally:
    heavy = {"jax", "flax", "librosa", "tensorflow_datasets", "sklearn", "matplotlib"} & set(sys.modules)
    print("heavy:", sorted(heavy))
"""
    result = python(code)
    assert result.returncode == 0
    assert "usage: python -m launch.train" in result.stdout and "Trains a model." in result.stdout
    assert "python -m launch.train --clusters 20" in result.stdout
    assert "--unlabeled-size INT" in result.stdout and "(default: 64)" in result.stdout
    assert "None" not in result.stdout
    assert "heavy: []" in result.stdout


@pytest.mark.parametrize("columns", ["1", "7", "0", "-3", "many"])
@pytest.mark.parametrize("name", ["predict", "experiment"])
def test_help_ends_and_is_legible_in_any_width(columns, name):
    command = [sys.executable, "-m", f"launch.{name}", "--help"]
    environment = os.environ | {"COLUMNS": columns}
    result = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S, env=environment)
    assert result.returncode == 0
    # Legible: no word is cut, and what belongs to an option stands beside it.
    assert "--workdir PATH" in result.stdout if name == "experiment" else "--output PATH" in result.stdout
    assert len(result.stdout.splitlines()) < 400


def test_help_on_a_terminal_of_one_column():
    terminal, child_end = pty.openpty()
    termios.tcsetwinsize(child_end, (24, 1))
    environment = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
    command = [sys.executable, "-m", "launch.evaluate", "--help"]
    process = subprocess.Popen(command, stdin=child_end, stdout=child_end, stderr=child_end, env=environment)
    os.close(child_end)
    shown = b""
    with suppress(OSError):  # how Linux reports the closed other end
        while part := os.read(terminal, 65536):
            shown += part
    os.close(terminal)
    assert process.wait(timeout=DEADLINE_S) == 0
    assert b"--checkpoint" in shown
