"""The prepare command as a person uses it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

import emocluster_jax
import launch.prepare
from emocluster_jax.api.evaluation import open_data_for
from emocluster_jax.config import AudioConfig, FeatureConfig
from emocluster_jax.console import Console
from emocluster_jax.errors import InputError
from emocluster_jax.records.preparation import read_preparation
from emocluster_jax.records.reader import open_data
from running import call
from small_models import noise, small_model, write_recording

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
    (speech / "pool" / "phone.qqq").touch()
    options = ("--corpus", "manifest", "--source", speech, "--unlabeled", speech / "pool", "--data-dir", tmp_path / "d")
    result = prepare(*options, "--workers", 2)
    assert result.returncode == 0, result.stderr
    assert f"warning: left out of {speech / 'pool'}, by their suffix: 1 .qqq" in result.stderr.splitlines()
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
    train = open_data(tmp_path / "d").read("train")
    assert train.ids == ["labelled/0.wav", "labelled/1.wav"]
    np.testing.assert_array_equal(train.labels.values[:, 0], [0, 0.5])
    assert train.labels.names == ("arousal", "valence")  # no column for dominance

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
    call(launch.prepare, *map(str, (*options, tmp_path / "mixed")))
    out = capsys.readouterr().out
    assert "skipped 1, the channels cancel: their mean is silent; --channel first takes one of them: 0.wav\n" in out
    call(
        launch.prepare,
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
        ((*base, "--channel", "0"), "--channel is 0; expected mix, first, or a channel's number from 1"),
        ((*base, "--workers", 2, "--beam-runner", "DirectRunner"), "--workers"),
        ((*base, "--beam-options", "parallelism=2"), "--beam-runner"),
        ((*base[:5], "gs://bucket/data", "--beam-runner", "DirectRunner"), "gs:/bucket/data is not a folder"),
        ((*base, "--statistics-from", tmp_path / "nothing"), "nothing"),
        ((*base[:5], speech), "not a prepared data directory"),
    ):
        assert culprit in one_line_error(prepare(*options))
    assert [path.name for path in tmp_path.iterdir()] == ["speech"]


Warnings = Callable[..., list[str]]


@pytest.fixture
def warnings_of(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Warnings:
    """What preparing a manifest of recordings 0.wav, 1.wav, ... with such rows warns of."""
    source = tmp_path / "corpus"
    source.mkdir()

    def prepared(rows: list[str], header: str = "split,arousal", **options: Any) -> list[str]:
        for i in range(len(rows)):
            write_recording(source / f"{i}.wav", noise(0.2, seed=i))
        lines = [f"{i}.wav,{row}" for i, row in enumerate(rows)]
        (source / "manifest.csv").write_text("\n".join([f"file,{header}", *lines]))
        shutil.rmtree(tmp_path / "d", ignore_errors=True)
        emocluster_jax.prepare("manifest", source, tmp_path / "d", workers=1, console=Console(quiet=True), **options)
        return capsys.readouterr().err.splitlines()

    return prepared


def test_splits_that_are_empty_to_ones_surprise_are_warned_of(warnings_of: Warnings, tmp_path: Path) -> None:
    assert warnings_of(["train,1", "validation,2", "test,3"]) == []
    validation, test = warnings_of(["train,1", "unlabeled,"])
    assert validation.startswith("warning: the validation split is empty, since no recording is in it: ")
    assert test.startswith("warning: the test split is empty, since no recording is in it: ")
    assert warnings_of(["unlabeled,", "unlabeled,"]) == []  # no labels, no splits of them
    (pool,) = warnings_of(["train,1", "validation,2", "test,3"], unlabeled=tmp_path / "corpus")
    assert pool.startswith("warning: the unlabeled split is empty") and "`unlabeled` is in the corpus" in pool
    warnings_of(["train,1", "validation,2", "test,3"])
    shutil.move(tmp_path / "d", tmp_path / "other")
    assert warnings_of(["test,1", "test,2"], statistics_from=tmp_path / "other") == []  # a model's evaluation


def test_a_warning_of_the_command_names_its_options(
    warnings_of: Warnings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    warnings_of(["train,1", "validation,2", "test,3"])
    source = str(tmp_path / "corpus")
    given = ["--corpus", "manifest", "--source", source, "--unlabeled", source, "--data-dir", str(tmp_path / "e")]
    call(launch.prepare, *given, "--workers", "1", "--quiet")
    assert capsys.readouterr().err.splitlines() == [
        "warning: the unlabeled split is empty, since no recording is in it: everything in the folder of --unlabeled "
        "is in the corpus already"
    ]


def test_splits_whose_recordings_cannot_be_used_are_warned_of(warnings_of: Warnings, tmp_path: Path) -> None:
    (tmp_path / "corpus" / "gone").mkdir()
    rows = ["train,1", "validation,2", "test,3\ngone/3.wav,test,4\ngone/4.wav,test,4"]
    assert warnings_of(rows) == []
    rows = ["train,1", "validation,2\ngone/2.wav,test,3\ngone/3.wav,test,4"]
    assert warnings_of(rows) == ["warning: the test split is empty: none of its 2 recordings could be used"]


def test_labels_that_deserve_a_second_look_are_warned_of(warnings_of: Warnings) -> None:
    rows = [f"{split},{i % 5},{i}" for i, split in enumerate(["train"] * 8 + ["validation", "test"])]
    rows[3] = "train,4000,3"
    unused, outlier = warnings_of(rows, "split,valence,\x1bactivation")
    assert unused.startswith("warning: ") and r"\x1bactivation to arousal" in unused
    assert outlier.startswith("warning: valence: 1 of 10 values ") and "is 4000, of 3.wav; " in outlier


def test_test_sets_that_are_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = ["FileName,EmoAct,EmoDom,EmoVal,SpkrID,Gender,Split_Set"]
    (tmp_path / "r" / "Audios").mkdir(parents=True)
    for i, split in enumerate(("Train", "Development", "Test")):  # as in release 1.6
        write_recording(tmp_path / "r" / "Audios" / f"{i}.wav", noise(0.2, seed=i))
        lines.append(f"{i}.wav,1,2,{i},{7 + i},Male,{split}")
    (tmp_path / "r" / "labels_consensus.csv").write_text("\n".join(lines))
    given = ("--corpus", "msp_podcast", "--source", str(tmp_path / "r"), "--data-dir", str(tmp_path / "d"))
    with pytest.raises(InputError, match=r"--test-sets Test1 Test2: .*its test sets are: Test$"):
        call(launch.prepare, *given, "--test-sets", "Test1", "Test2")
    assert not (tmp_path / "d").exists()
    for options in ((), ("--test-sets", "TEST"), ("--test-sets", "test", "test1", "test2")):
        call(launch.prepare, *given, "--workers", "1", *options)
        assert read_preparation(tmp_path / "d").counts == {"train": 1, "validation": 1, "test": 1}
    assert capsys.readouterr().err.count("warning") == 0


def test_iemocap_as_one_command(tmp_path: Path) -> None:
    for session in range(1, 6):
        turn, folder = f"Ses0{session}F_impro01_M000", tmp_path / "iemocap" / f"Session{session}"
        (folder / "dialog" / "EmoEvaluation").mkdir(parents=True)
        rating = f"[6.2901 - 8.2357]\t{turn}\tneu\t[2.5000, {session / 2}, 3.0000]\n"
        (folder / "dialog" / "EmoEvaluation" / f"Ses0{session}F_impro01.txt").write_text(rating)
        (folder / "sentences" / "wav" / f"Ses0{session}F_impro01").mkdir(parents=True)
        write_recording(folder / "sentences" / "wav" / f"Ses0{session}F_impro01" / f"{turn}.wav", noise(0.3))
    call(
        launch.prepare,
        *("--corpus", "iemocap", "--source", str(tmp_path / "iemocap"), "--data-dir", str(tmp_path / "d")),
        *("--workers", "1", "--quiet"),
    )
    assert read_preparation(tmp_path / "d").counts == {"train": 3, "validation": 1, "test": 1}
    train = open_data(tmp_path / "d").read("train")
    assert train.speakers == ["Ses01M", "Ses02M", "Ses03M"]
    np.testing.assert_array_equal(train.labels.values, [[0.5, 3, 2.5], [1, 3, 2.5], [1.5, 3, 2.5]])


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
    validation = open_data(tmp_path / "d").read("validation")
    assert set(validation.speakers) == {"008", "012", "019"}
    assert 1 <= validation.labels.values.min() <= validation.labels.values.max() <= 5
    train = open_data(tmp_path / "d").read("train").chunks.astype(np.float32)
    assert np.abs(train).max() == 3
    # Power spectra have heavy tails: clipping at three deviations pulls the mean below 0.
    assert -0.1 < train.mean() < 0


def test_windows_hop_and_bands(tmp_path: Path) -> None:
    write_recording(tmp_path / "0.wav", noise(2.0))
    (tmp_path / "manifest.csv").write_text("file,split,arousal\n0.wav,train,1\n")
    options = ["--corpus", "manifest", "--source", str(tmp_path), "--workers", "1"]
    wide = ["--window-ms", "40", "--hop-ms", "20", "--mel-bands", "64"]
    call(launch.prepare, *options, "--data-dir", str(tmp_path / "wide"), *wide)
    preparation = read_preparation(tmp_path / "wide")
    assert preparation.features == FeatureConfig(fft_size=640, hop_size=320, mel_bands=64, chunk_frames=50)
    model = small_model()
    with pytest.raises(
        InputError, match=r"than the model's training data \(fft_size 640, not 512; hop_size 320, not 256;"
    ):
        open_data_for(model, tmp_path / "model", tmp_path / "wide", None, Console(quiet=True))
    with pytest.raises(InputError, match="--hop-ms 50 leaves out what is between windows"):
        call(launch.prepare, *options, "--data-dir", str(tmp_path / "gaps"), "--hop-ms", "50")
    with pytest.raises(InputError, match="leave out --window-ms, --hop-ms and --mel-bands"):
        call(launch.prepare, *options, "--data-dir", str(tmp_path / "given"), "--frame-rate", "50", *wide)


def test_the_windows_of_the_paper_are_the_default() -> None:
    assert FeatureConfig.of_windows(32, 16, 128) == FeatureConfig()
