"""Recordings whose decoder ends the process; it is made to, in the processes that preparation starts."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from emocluster_jax.config import DEFAULT_AUDIO, FeatureConfig
from emocluster_jax.console import Console
from emocluster_jax.corpora.utterance import Utterance
from emocluster_jax.errors import InputError
from emocluster_jax.records.crashes import Examined, examine, noting, read_crashing
from emocluster_jax.records.preparation import Preparation, SkippedRecording, read_preparation
from emocluster_jax.records.shards import Shard
from emocluster_jax.records.writer import prepare
from small_models import noise, write_recording
from small_records import vad

PROJECT = Path(__file__).resolve().parent.parent.parent
DECODER = """
import os, signal, soundfile
_read = soundfile.SoundFile.read

def read(self, *arguments, **options):
    name = os.fsdecode(self.name)
    if "SIG" in name and not os.path.exists(name + ".once"):
        if "once" in name:
            open(name + ".once", "w").close()
        os.kill(os.getpid(), getattr(signal, name.partition(".")[2].partition(".")[0]))
    return _read(self, *arguments, **options)

soundfile.SoundFile.read = read
"""
"""Python runs a module of the name `sitecustomize` at its start. A recording's name says which signal its decoder gets,
and whether every time."""


@pytest.fixture
def path_of_decoder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "decoder").mkdir()
    (tmp_path / "decoder" / "sitecustomize.py").write_text(DECODER)
    path = os.pathsep.join(map(str, (tmp_path / "decoder", PROJECT)))
    monkeypatch.setenv("PYTHONPATH", path)
    return path


def corpus(folder: Path, *names: str) -> list[Utterance]:
    """Two shards of a training split, one of a test split; these names are among them."""
    folder.mkdir()
    train = [f"{i:02d}.wav" for i in range(17)]
    rows = [(name, "test" if "test" in name else "train") for name in (*train, "test.wav", *names)]
    return [
        Utterance(name, write_recording(folder / name, noise(0.2, seed=i)), split, labels=vad(float(i), 1.0, 1.0))
        for i, (name, split) in enumerate(rows)
    ]


def prepared(utterances: list[Utterance], data_dir: Path) -> Preparation:
    return prepare(utterances, data_dir, FeatureConfig(), "noise", "/noise", 2, Console(quiet=True))


@pytest.mark.usefixtures("path_of_decoder")
def test_recordings_that_crash_workers_are_left_out(tmp_path: Path) -> None:
    """In both passes, and two of them in one shard."""
    names = ("05.SIGSEGV.wav", "11.SIGABRT.wav", "test.SIGSEGV.wav")
    preparation = prepared(corpus(tmp_path / "audio", *names), tmp_path / "data")
    assert preparation.counts == {"train": 17, "test": 1}
    assert preparation.skipped == (
        SkippedRecording("05.SIGSEGV.wav", "its decoder crashes (SIGSEGV)"),
        SkippedRecording("11.SIGABRT.wav", "its decoder crashes (SIGABRT)"),
        SkippedRecording("test.SIGSEGV.wav", "its decoder crashes (SIGSEGV)"),
    )
    assert read_preparation(tmp_path / "data").skipped == preparation.skipped


@pytest.mark.usefixtures("path_of_decoder")
def test_a_file_that_crashes_its_decoder_is_left_out_with_all_of_its_segments(tmp_path: Path) -> None:
    path = write_recording(tmp_path / "x.SIGSEGV.wav", noise(0.2))
    segments = [Utterance(f"x#{i}-{i + 1}", path, "train", start_s=float(i), end_s=float(i + 1)) for i in range(3)]
    shard = Shard("train", 0, (*segments, Utterance("y", tmp_path / "y.wav", "train")))
    (tmp_path / "train-00000.decoding").write_text("1")
    assert examine([shard], FeatureConfig(), DEFAULT_AUDIO, tmp_path) == Examined([u.id for u in segments], [])
    assert read_crashing(tmp_path) == dict.fromkeys((u.id for u in segments), "its decoder crashes (SIGSEGV)")


@pytest.mark.usefixtures("path_of_decoder")
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("03.SIGKILL.wav", r"decoded '03\.SIGKILL\.wav' was killed \(SIGKILL\)"),
        ("03.SIGABRT.once.wav", r"a worker process died while it decoded .*'03\.SIGABRT\.once\.wav'"),
    ],
)
def test_deaths_that_may_not_be_the_recordings_fault_name_it(tmp_path: Path, name: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        prepared(corpus(tmp_path / "audio", name), tmp_path / "data")


def test_a_recording_that_crashes_the_command_itself_is_left_out_the_next_time(
    tmp_path: Path, path_of_decoder: str
) -> None:
    corpus(tmp_path / "audio", "05.SIGABRT.wav")
    rows = [f"{path.name},train,{i}" for i, path in enumerate(sorted((tmp_path / "audio").iterdir()))]
    (tmp_path / "audio" / "manifest.csv").write_text("\n".join(["file,split,arousal", *rows]))
    options = ["--corpus", "manifest", "--source", "audio", "--data-dir", "data", "--workers", "1"]
    lives = [
        subprocess.run(
            [sys.executable, "-m", "launch.prepare", *options],
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": path_of_decoder},
            capture_output=True,
            text=True,
        )
        for _ in range(2)
    ]
    assert [life.returncode for life in lives] == [-signal.SIGABRT, 0], lives
    assert "skipped 1, its decoder crashes (SIGABRT): 05.SIGABRT.wav" in lives[1].stdout


@pytest.mark.parametrize("note", [b"7", b"-1", b"1.5", b"", b"\xb2", b"9" * 5000, None])
def test_a_damaged_note_names_no_recording(tmp_path: Path, note: bytes | None) -> None:
    shard = Shard("train", 0, tuple(corpus(tmp_path / "audio")[:2]))
    next(noting(shard, tmp_path))
    path = tmp_path / f"{shard.name}.decoding"
    os.mkfifo(path) if note is None else path.write_bytes(note)
    assert examine([shard], FeatureConfig(), DEFAULT_AUDIO, tmp_path) == Examined([], [])
