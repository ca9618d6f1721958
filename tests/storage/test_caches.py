"""Where caches go for a user without a home folder, or with one that cannot be written, as in containers."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from emocluster_jax.errors import InputError
from emocluster_jax.storage import caches
from emocluster_jax.storage.caches import place_caches
from launch import report
from running import call

PROJECT = Path(__file__).resolve().parents[2]
VARIABLES = {"JAX_COMPILATION_CACHE_DIR": "xla", "NUMBA_CACHE_DIR": "numba", "MPLCONFIGDIR": "matplotlib"}
BLOCKED = "/dev/null"
"""Root may write to any folder, but this is none."""


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An environment that says nothing of caches; the temporary folder."""
    for variable in ("HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", *VARIABLES):
        monkeypatch.setenv(variable, "")  # so that what the test sets goes with its end
        monkeypatch.delenv(variable)
    monkeypatch.setattr(tempfile, "tempdir", None)  # where `tempfile` remembers what it found
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(PROJECT))
    monkeypatch.setenv("HOME", BLOCKED)
    return tmp_path


def private(folder: Path) -> Path:
    return folder / f"emocluster_jax-{os.geteuid()}"


def placed() -> dict[str, str]:
    """What the environment says of caches."""
    return {name: os.environ[name] for name in ("XDG_CACHE_HOME", *VARIABLES) if name in os.environ}


def python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)


def test_nothing_changes_where_the_home_folder_can_be_written(
    bare: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HOME", str(bare / "home" / "me"))
    place_caches()
    assert placed() == {} and list(bare.iterdir()) == [] and capsys.readouterr().err == ""


def test_caches_of_a_home_folder_that_cannot_be_written(bare: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """XDG_CACHE_HOME stays: what other libraries downloaded to the home folder before is found there."""
    place_caches()
    folder = private(bare)
    assert placed() == {variable: str(folder / name) for variable, name in VARIABLES.items()}
    assert folder.stat().st_mode & 0o777 == 0o700
    warning = capsys.readouterr().err
    assert warning.startswith(f"warning: {BLOCKED}/.cache/emocluster_jax/xla cannot be written; caches")
    assert f"are kept in {folder}; to keep them elsewhere" in warning and warning.count("\n") == 1
    place_caches()
    assert capsys.readouterr().err == ""


def test_what_the_environment_says_stays(
    bare: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("NUMBA_CACHE_DIR", "/mine")
    monkeypatch.setenv("XDG_CACHE_HOME", str(bare / "cache"))
    place_caches()
    assert placed() == {
        "XDG_CACHE_HOME": str(bare / "cache"),
        "NUMBA_CACHE_DIR": "/mine",
        "MPLCONFIGDIR": str(private(bare) / "matplotlib"),  # its settings are in ~/.config
    }
    assert f"{BLOCKED}/.config/matplotlib cannot be written" in capsys.readouterr().err


def test_without_a_home_folder_librosa_works_and_child_processes_are_silent(
    bare: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", "")
    done = python(
        "import emocluster_jax, librosa.filters, matplotlib.font_manager, os, subprocess, sys\n"
        "print(matplotlib.get_cachedir())\n"
        "child = [sys.executable, '-c', 'import emocluster_jax.inference.predictor']\n"
        "print(subprocess.run(child, stderr=subprocess.PIPE).stderr)"
    )
    assert done.stdout.splitlines() == [str(private(bare) / "matplotlib"), "b''"], done.stderr
    warnings = [line for line in done.stderr.splitlines() if "warning" in line]
    assert len(warnings) == 1 and warnings[0].startswith("warning: there is no home folder; caches")
    assert any((private(bare) / "numba").iterdir())


def test_a_user_that_the_system_does_not_know(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if os.geteuid():
        pytest.skip("only root can become another user")
    if any(folder.stat().st_mode & 0o005 != 0o005 for folder in (PROJECT, *PROJECT.parents)):
        pytest.skip(f"other users cannot read {PROJECT}")
    monkeypatch.delenv("HOME")
    # pytest's own folder is closed to others.
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        Path(folder).chmod(0o1777)
        monkeypatch.setenv("TMPDIR", folder)
        done = python(
            "import contextlib, importlib, os, pathlib, stat, sys, tempfile, typing\n"
            "os.setresuid(54321, 54321, 54321)\n"
            "import emocluster_jax\nprint(os.environ['NUMBA_CACHE_DIR'])"
        )
        assert done.stdout == f"{folder}/emocluster_jax-54321/numba\n", done.stderr
        assert done.stderr.startswith("warning: there is no home folder;")
        assert Path(folder, "emocluster_jax-54321").stat().st_uid == 54321


def _link(folder: Path) -> None:
    (folder.parent / "theirs").mkdir(mode=0o700)
    folder.symlink_to("theirs")


def _of_someone_else(folder: Path) -> None:
    folder.mkdir(mode=0o700)
    try:
        os.chown(folder, 54321, 54321)
    except PermissionError:
        pytest.skip("only root can give a folder to someone else")


def _open_to_all(folder: Path) -> None:
    folder.mkdir()
    folder.chmod(0o777)


@pytest.mark.parametrize("plant", [_link, _of_someone_else, _open_to_all, Path.touch])
def test_what_others_put_in_the_place_is_not_used(
    bare: Path, capsys: pytest.CaptureFixture[str], plant: Callable[[Path], None]
) -> None:
    folder = private(bare)
    plant(folder)
    place_caches()
    (used,) = {Path(path).parent for path in placed().values()}
    assert used != folder and used.parent == bare and used.stat().st_mode & 0o777 == 0o700
    assert used.stat().st_uid == os.geteuid() and not used.is_symlink()
    assert f"in {used} ({folder} is not private to this user); to keep" in capsys.readouterr().err


def test_no_place_at_all_is_one_line(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def nowhere() -> str:
        raise FileNotFoundError(errno.ENOENT, "No usable temporary directory found in ['/tmp']")

    monkeypatch.setattr(caches.tempfile, "gettempdir", nowhere)
    with pytest.raises(InputError, match=r"/xla cannot be written, and no temporary folder .*; set TMPDIR to one"):
        call(report, "--workdir", str(bare))
    assert placed() == {}
