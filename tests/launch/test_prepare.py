"""The prepare command as a person uses it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

import emocluster_jax
from emocluster_jax.config import AudioConfig
from emocluster_jax.errors import InputError
from emocluster_jax.records.preparation import read_preparation
from emocluster_jax.records.reader import read_split
from emocluster_jax.reporting.console import Console
from launch import prepare as prepare_command
from running import call
from small_models import noise, write_recording

PROJECT = Path(__file__).resolve().parents[2]


def prepare(*options: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "launch.prepare", *map(str, options)]
    return subprocess.run(command, cwd=PROJECT, capture_output=True, text=True)


def one_line_error(result: subprocess.CompletedProcess[str]) -> str:
    """The message of a command that ended with status 2 and nothing else on stderr but warnings."""
    assert result.returncode == 2
    lines = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    assert "Traceback" not in result.stderr
    return lines[0]


@pytest.fixture
def speech(tmp_path: Path) -> Path:
    """Eight recordings with a manifest and three without labels; three of the first cannot be used."""
    folder = tmp_path / "speech"
    rng = np.random.default_rng(0)
    rows = ["file,split,speaker,arousal,valence"]
    for folder_name, count in (("labelled", 8), ("pool", 3)):
        (folder / folder_name).mkdir(parents=True)
        for i in range(count):
            soundfile.write(folder / folder_name / f"{i}.wav", rng.standard_normal(8_000 + 9_000 * i) / 9, 16_000)
            if folder_name == "labelled":
                split = ("train", "train", "validation", "test")[i % 4]
                rows.append(f"labelled/{i}.wav,{split},s{i},{i / 2},{4 - i / 3}")
    (folder / "labelled" / "4.wav").write_bytes(b"")
    content = (folder / "labelled" / "5.wav").read_bytes()
    (folder / "labelled" / "5.wav").write_bytes(content[: len(content) // 2])
    (folder / "labelled" / "7.wav").write_bytes(b"no audio at all")
    (folder / "manifest.csv").write_text("\n".join(rows) + "\n")
    return folder


def test_a_manifest_with_bad_recordings(speech: Path, tmp_path: Path) -> None:
    options = ("--corpus", "manifest", "--source", speech, "--unlabeled", speech / "pool", "--data-dir", tmp_path / "d")
    result = prepare(*options, "--workers", 2)
    assert result.returncode == 0, result.stderr
    for text in (
        "skipped 1, empty file: labelled/4.wav",
        "skipped 1, truncated",
        "skipped 1, not audio",
        "were padded",
    ):
        assert text in result.stdout
    assert str(tmp_path / "d") in result.stdout
    preparation = read_preparation(tmp_path / "d")
    assert preparation.counts == {"train": 2, "validation": 2, "test": 1, "unlabeled": 3}
    train = read_split(tmp_path / "d", "train")
    assert train.ids == ["labelled/0.wav", "labelled/1.wav"]
    np.testing.assert_array_equal(train.attributes[:, 0], [0, 0.5])
    assert np.isnan(train.attributes[:, 1]).all()  # no column for dominance

    again = prepare(*options)
    assert again.returncode == 0
    assert "already" in again.stdout
    message = one_line_error(prepare(*options, "--unlabeled-limit", 2))
    assert "holds other prepared data" in message
    assert "--data-dir" in message


def test_one_channel_and_what_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clipped = np.clip(9 * noise(2.0), -1, 1)
    write_recording(tmp_path / "0.wav", np.stack([noise(2.0), -noise(2.0)]))
    write_recording(tmp_path / "1.wav", np.stack([clipped + 0.1, noise(2.0)]))
    (tmp_path / "manifest.csv").write_text("file,split,arousal\n0.wav,train,1\n1.wav,train,2\n")
    options = ("--corpus", "manifest", "--source", tmp_path, "--workers", 1, "--data-dir")
    call(prepare_command, *map(str, (*options, tmp_path / "mixed")))
    out = capsys.readouterr().out
    assert "skipped 1, the channels cancel: their mean is silent; --channel first takes one of them: 0.wav\n" in out
    call(
        prepare_command,
        *map(str, (*options, tmp_path / "first", "--channel", "first", "--remove-dc", "--strict-audio")),
    )
    out = capsys.readouterr().out
    assert "skipped" not in out
    assert "1 recording with clipped samples\n" in out
    assert "1 recording with a DC offset of 1 % of the peak or more (--remove-dc subtracts it)\n" in out
    assert read_preparation(tmp_path / "first").audio == AudioConfig(channel=1, remove_dc=True, strict=True)


def test_nothing_left_is_an_error(speech: Path, tmp_path: Path) -> None:
    for path in (speech / "labelled").iterdir():
        path.write_bytes(b"")
    result = prepare("--corpus", "manifest", "--source", speech, "--data-dir", tmp_path / "d", "--workers", 1)
    message = one_line_error(result)
    assert "none of the 4 recordings of the train split" in message
    assert "empty file" in message
    assert [path.name for path in tmp_path.iterdir()] == ["speech"]


def test_requests_that_make_no_sense(speech: Path, tmp_path: Path) -> None:
    base = ("--corpus", "manifest", "--source", speech, "--data-dir", tmp_path / "d")
    for options, culprit in (
        ((*base[:3], tmp_path / "absent", *base[4:]), "absent"),
        ((*base, "--unlabeled", tmp_path / "nowhere"), "nowhere"),
        ((*base, "--unlabeled-limit", 3), "--unlabeled"),
        ((*base, "--english", "unlabeled"), "--english"),
        ((*base, "--workers", 0), "--workers"),
        ((*base, "--channel", "left"), "--channel is left; expected mix, first, or a channel's number from 1"),
        ((*base, "--workers", 2, "--beam-runner", "DirectRunner"), "--workers"),
        ((*base, "--beam-options", "parallelism=2"), "--beam-runner"),
        ((*base[:5], "gs://bucket/data", "--beam-runner", "DirectRunner"), "gs:/bucket/data is no folder"),
        ((*base, "--statistics-from", tmp_path / "nothing"), "nothing"),
        ((*base[:5], speech), "no prepared data"),
    ):
        assert culprit in one_line_error(prepare(*options))
    assert [path.name for path in tmp_path.iterdir()] == ["speech"]


def test_without_beam_the_extra_is_named(speech: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "apache_beam"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "apache_beam", None)
    with pytest.raises(InputError, match=r"emocluster_jax\[beam\]"):
        emocluster_jax.prepare("manifest", speech, tmp_path / "d", beam="DirectRunner", console=Console(quiet=True))
    assert [path.name for path in tmp_path.iterdir()] == ["speech"]


def test_emotale_as_one_command(emotale: Path, tmp_path: Path) -> None:
    """The part of the corpus with its own split; real speech all the way, its first chunk against a known value."""
    result = prepare("--corpus", "emotale", "--source", emotale, "--data-dir", tmp_path / "d", "--quiet")
    assert result.returncode == 0, result.stderr
    assert result.stdout == ""
    preparation = read_preparation(tmp_path / "d")
    assert preparation.counts == {"train": 275, "validation": 75, "test": 100, "unlabeled": 225}
    assert preparation.skipped == ()
    validation = read_split(tmp_path / "d", "validation")
    assert set(validation.speakers) == {"008", "012", "019"}
    assert 1 <= validation.attributes.min() <= validation.attributes.max() <= 5
    train = read_split(tmp_path / "d", "train").chunks.astype(np.float32)
    assert np.abs(train).max() == 3
    # Power spectra have heavy tails: clipping at three deviations pulls the mean below 0.
    assert -0.1 < train.mean() < 0
