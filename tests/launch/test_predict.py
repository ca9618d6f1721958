from __future__ import annotations

import csv
import io
import os
import shutil
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
import soundfile

from emocluster_jax.errors import InputError
from emocluster_jax.inference.model_directory import save_model
from emocluster_jax.inference.predictor import load_model
from emocluster_jax.preprocessing.audio import read_audio
from launch import predict
from running import call
from small_models import noise, small_model, write_recording

PROJECT = Path(__file__).resolve().parents[2]
NAMES = ["-leading.wav", "a b.wav", 'sub/comma, "quotes".wav', "sub/æøå 音.flac", "sub/ü\nline\rreturn\t tab .wav"]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Model directories by what they predict; "work" is a work directory."""
    folder = tmp_path_factory.mktemp("models")
    save_model(folder / "arousal", small_model(("arousal",)))
    save_model(folder / "both", small_model(("dominance", "valence"), seed=1))
    save_model(folder / "work" / "model", small_model(("valence",), seed=2))
    return {name: folder / name for name in ("arousal", "both", "work")}


@pytest.fixture(scope="module")
def speech(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of five good recordings with awkward names, two bad ones, and a text."""
    folder = tmp_path_factory.mktemp("speech")
    (folder / "sub").mkdir()
    for i, name in enumerate(NAMES):
        write_recording(folder / name, noise(1.5 + i, seed=i))
    (folder / "broken.wav").write_bytes(b"RIFF no")
    (folder / "empty.mp3").touch()
    (folder / "notes.txt").write_text("no recording")
    return folder


@pytest.fixture(autouse=True)
def compilation_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path_factory.getbasetemp() / "xla"))


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> None:
    call(predict, *map(str, arguments))


def read(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def seconds(text: str) -> float:
    days, clock = text.split(" days ")
    hours, minutes, rest = clock.split(":")
    return timedelta(days=int(days), hours=int(hours), minutes=int(minutes), seconds=float(rest)).total_seconds()


def test_a_folder_becomes_a_table(
    models: dict[str, Path],
    speech: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    output, embeddings = tmp_path / "predictions.csv", tmp_path / "embeddings.npz"
    run(
        monkeypatch,
        *("--checkpoint", models["both"], models["arousal"], "--input", speech, "--output", output),
        *("--embeddings", embeddings),
    )

    rows = read(output)
    assert list(rows[0]) == ["file", "start", "end", "dominance", "valence", "arousal"]
    assert [row["file"] for row in rows] == NAMES
    both, arousal = load_model(models["both"]), load_model(models["arousal"])
    saved = np.load(embeddings, allow_pickle=False)
    assert saved["file"].tolist() == NAMES
    for i, row in enumerate(rows):
        signal = read_audio(speech / row["file"], 16_000)
        assert seconds(row["start"]) == 0
        assert seconds(row["end"]) == pytest.approx(1.5 + i)
        expected = both(signal, 16_000).attributes | arousal(signal, 16_000).attributes
        assert {name: float(row[name]) for name in expected} == pytest.approx(expected, abs=1e-4)
        np.testing.assert_allclose(saved["arousal_embeddings"][i], arousal(signal, 16_000).embedding, atol=1e-4)
        assert saved["dominance_valence_clusters"][i] == both(signal, 16_000).cluster
    np.testing.assert_allclose(saved["end"], [1.5, 2.5, 3.5, 4.5, 5.5])
    out, err = capsys.readouterr()
    assert "5 of 7 recordings, 5 rows" in out
    assert "skipped 'broken.wav'" in err
    assert "skipped 'empty.mp3': empty file" in err
    assert {path.name for path in tmp_path.iterdir()} == {"predictions.csv", "embeddings.npz"}


def test_what_a_folder_has_besides_is_counted(
    models: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = tmp_path / "speech"
    folder.mkdir()
    write_recording(folder / "a.wav", noise(1.5))
    soundfile.write(folder / "b.caf", noise(1.5, seed=1), 16_000)
    for name in ("c.qqq", "d.qqq", "notes.txt"):
        (folder / name).touch()
    run(monkeypatch, "--checkpoint", models["arousal"], "--input", folder, "--output", tmp_path / "out.csv")
    assert [row["file"] for row in read(tmp_path / "out.csv")] == ["a.wav", "b.caf"]
    out, err = capsys.readouterr()
    assert "2 of 2 recordings, 2 rows" in out
    assert f"warning: left out of {folder}, by their suffix: 2 .qqq\n" in err


def test_windows_are_rows(
    models: dict[str, Path], speech: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    embeddings = tmp_path / "embeddings.npz"
    run(
        monkeypatch,
        *("--checkpoint", models["arousal"], "--input", speech / NAMES[3], speech / NAMES[0]),
        *("--output", tmp_path / "out.csv", "--window-seconds", 1.5, "--quiet", "--embeddings", embeddings),
    )

    rows = read(tmp_path / "out.csv")
    assert [(row["file"], row["start"], row["end"]) for row in rows] == [
        ("æøå 音.flac", "0 days 00:00:00.000000", "0 days 00:00:01.500000"),
        ("æøå 音.flac", "0 days 00:00:01.500000", "0 days 00:00:03.000000"),
        ("æøå 音.flac", "0 days 00:00:03.000000", "0 days 00:00:04.500000"),
        ("-leading.wav", "0 days 00:00:00.000000", "0 days 00:00:01.500000"),
    ]
    saved = np.load(embeddings)
    assert saved["embeddings"].shape == (4, 32)
    assert saved["clusters"].shape == (4,)
    np.testing.assert_allclose(saved["start"], [0, 1.5, 3, 0])


def test_silent_windows_are_empty_cells_and_quality_has_columns(
    models: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    silence = np.zeros((2, 3 * 16_000), np.float32)
    stereo = np.stack([noise(2.0), -noise(2.0)])
    (tmp_path / "in").mkdir()
    write_recording(tmp_path / "in" / "a.wav", np.concatenate([silence, stereo, silence], axis=1))
    write_recording(tmp_path / "in" / "b.wav", np.clip(9 * noise(0.5) + 0.2, -1, 1))
    given = ("--checkpoint", models["arousal"], "--input", tmp_path / "in", "--output", tmp_path / "out.csv")
    run(monkeypatch, *given, "--quality")
    rows = read(tmp_path / "out.csv")
    assert [row["file"] for row in rows] == ["b.wav"]
    out, err = capsys.readouterr()
    assert "skipped 'a.wav': the channels cancel: their mean is silent; --channel first takes one of them" in err
    assert "1 recording with clipped samples\n" in out
    assert "1 recording with a DC offset of 1 % of the peak or more (--remove-dc subtracts it)\n" in out
    names = ["covered", "padded", "silent_chunks", "clipped_samples", "dc_offset", "cut"]
    assert list(rows[0]) == ["file", "start", "end", "arousal", *names]
    assert rows[0]["covered"] == "1" and rows[0]["silent_chunks"] == "0" and rows[0]["cut"] == "0"
    assert float(rows[0]["padded"]) == pytest.approx((62 - 32) / 62, abs=1e-6)
    assert int(rows[0]["clipped_samples"]) > 100
    offset = float(rows[0]["dc_offset"])
    assert 0.05 < offset < 0.3

    run(
        monkeypatch,
        *given,
        "--quality",
        "--channel",
        "first",
        "--window-seconds",
        2,
        "--embeddings",
        tmp_path / "e.npz",
    )
    rows = read(tmp_path / "out.csv")
    assert [(row["file"], row["arousal"] == "", row["silent_chunks"]) for row in rows] == [
        ("a.wav", True, "1"),
        ("a.wav", False, rows[1]["silent_chunks"]),
        ("a.wav", False, rows[2]["silent_chunks"]),
        ("a.wav", True, "1"),
        ("b.wav", False, "0"),
    ]
    saved = np.load(tmp_path / "e.npz")
    silent = np.array([row["arousal"] == "" for row in rows])
    assert np.array_equal(np.isnan(saved["embeddings"]).all(axis=1), silent)
    assert np.array_equal(saved["clusters"] == -1, silent)
    assert "2 rows have empty cells, for silence\n" in capsys.readouterr().out
    alone = load_model(models["arousal"])(9 * noise(0.5), 16_000)  # not clipped, no offset: another signal
    assert float(rows[4]["arousal"]) != pytest.approx(alone.attributes["arousal"], abs=1e-6)

    run(monkeypatch, *given, "--channel", "first", "--remove-dc")
    removed = {row["file"]: float(row["arousal"]) for row in read(tmp_path / "out.csv")}
    signal = np.clip(9 * noise(0.5) + 0.2, -1, 1)
    expected = load_model(models["arousal"])(signal - signal.mean(), 16_000).attributes["arousal"]
    assert removed["b.wav"] == pytest.approx(expected, abs=1e-4)
    run(monkeypatch, *given, "--channel", "first", "--remove-dc", "no")
    assert float(read(tmp_path / "out.csv")[1]["arousal"]) == pytest.approx(float(rows[4]["arousal"]), abs=1e-6)


def test_frames_have_the_quality_if_asked(models: dict[str, Path], speech: Path) -> None:
    pytest.importorskip("pandas")
    import emocluster_jax

    predictions = emocluster_jax.predict(models["arousal"], speech / NAMES[0])
    assert list(predictions.to_frame()) == ["arousal", "cluster"]
    frame = predictions.to_frame(quality=True)
    assert list(frame) == ["arousal", "cluster", *predictions.quality]
    assert predictions.quality["covered"].tolist() == frame["covered"].tolist() and predictions.noticed == {}


def test_the_windows_table_is_a_table_of_segments(
    models: dict[str, Path],
    speech: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """To the last digit, on a CPU: the batches have one shape."""
    windows, again = tmp_path / "windows.csv", tmp_path / "again.csv"
    run(monkeypatch, "--checkpoint", models["both"], "--input", speech, "--output", windows, "--window-seconds", 1.1)
    run(monkeypatch, "--checkpoint", models["both"], "--input", windows, "--source", speech, "--output", again)
    assert again.read_bytes() == windows.read_bytes()
    assert len(read(again)) == 15
    assert "15 of 15 recordings, 15 rows" in capsys.readouterr().out


def test_a_table_has_a_row_for_each_of_its_rows_but_the_bad(
    models: dict[str, Path],
    speech: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    shutil.copytree(speech, tmp_path / "speech")
    table = tmp_path / "speech" / "table.CSV"
    names = ["a b.wav", f"{tmp_path}/speech/a b.wav", "a b.wav", "broken.wav", "-leading.wav", "gone.wav"]
    times = ["0.5,1.75", "0 days 00:00:01,", ",", "1,2", ",00:00:09", ","]
    table.write_text("file,start,end\n" + "".join(f"{name},{pair}\n" for name, pair in zip(names, times, strict=True)))
    run(monkeypatch, "--checkpoint", models["arousal"], "--input", table, "--output", tmp_path / "out.csv")
    rows = [(row["file"], seconds(row["start"]), seconds(row["end"])) for row in read(tmp_path / "out.csv")]
    assert rows == [("a b.wav", 0.5, 1.75), ("a b.wav", 1, 2.5), ("a b.wav", 0, 2.5)]
    out, err = capsys.readouterr()
    assert "3 of 6 recordings, 3 rows" in out
    for line in ("'broken.wav#1-2': ", "'-leading.wav#0-9': the segment reaches beyond", "'gone.wav': no such file"):
        assert f"skipped {line}" in err


def test_pandas_reads_the_table(
    models: dict[str, Path], speech: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pandas = pytest.importorskip("pandas")
    run(monkeypatch, "--checkpoint", models["work"], "--input", speech, "--output", tmp_path / "out.csv", "--quiet")
    table = pandas.read_csv(tmp_path / "out.csv")
    assert table["file"].tolist() == NAMES
    assert pandas.to_timedelta(table["end"]).dt.total_seconds().tolist() == pytest.approx([1.5, 2.5, 3.5, 4.5, 5.5])


def test_outputs_have_any_name_that_the_file_system_has(
    models: dict[str, Path], speech: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 255 bytes, some of which are not UTF-8; shown where the terminal has but ASCII, and on one line."""
    output, embeddings = (tmp_path / os.fsdecode(b"\xffn\n\xc3\xa9" + b"x" * 246 + end) for end in (b".csv", b".npz"))
    shown = io.TextIOWrapper(io.BytesIO(), "ascii")
    monkeypatch.setattr(sys, "stdout", shown)
    given = ("--checkpoint", models["arousal"], "--input", speech / NAMES[0])
    run(monkeypatch, *given, "--output", output, "--embeddings", embeddings, "--spreadsheet-safe")
    assert [row["file"] for row in read(output)] == [f"'{NAMES[0]}"]
    assert np.load(embeddings)["file"].tolist() == [NAMES[0]]
    assert sorted(tmp_path.iterdir()) == sorted([output, embeddings])
    lines = shown.buffer.getvalue().decode().splitlines()  # type: ignore[attr-defined]
    assert lines[0] == f"1 of 1 recordings, 1 rows: {tmp_path}/\\udcffn\\n\\xe9{'x' * 246}.csv"


@pytest.fixture
def request_with(models: dict[str, Path], speech: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Runs a command line with some options changed; None leaves an option out."""

    def run_changed(**changes: list[object]) -> None:
        options: dict[str, list[object]] = {
            "checkpoint": [models["arousal"]],
            "input": [speech],
            "output": [tmp_path / "out.csv"],
        } | changes
        run(monkeypatch, *(part for name, values in options.items() for part in (f"--{name}", *values)))

    return run_changed


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"checkpoint": []}, "--checkpoint is empty"),
        ({"input": []}, "--input is empty"),
        ({"checkpoint": ["{tmp}"]}, "is not a model directory"),
        ({"checkpoint": ["{arousal}", "{arousal}"]}, "both predict arousal"),
        ({"checkpoint": ["{both}", "{work}"]}, "both predict valence"),
        ({"input": ["{tmp}/missing"]}, "missing does not exist"),
        ({"input": ["{tmp}"]}, "holds no recordings"),
        ({"input": ["{speech}", "{tmp}/other/a b.wav"]}, "would both be called a b.wav"),
        ({"source": ["{tmp}"]}, "--source {tmp} is for the paths in a table, and none is given"),
        (
            {"input": ["{table}"]},
            "none of its 2 recordings exists (first: {tmp}/a b.wav); give the folder",
        ),
        ({"input": ["{table}"], "source": ["{tmp}/no"]}, "--source {tmp}/no is not a folder"),
        ({"input": ["{table}"], "source": ["{speech}"], "output": ["{table}"]}, "table.csv is one of the inputs"),
        ({"input": ["{table}", "{tmp}/twice.csv"], "source": ["{speech}"]}, "line 3: a b.wav#0-1 is listed twice"),
        ({"input": ["{tmp}/out.tsv"], "source": ["{speech}"]}, "line 2: '../x.wav' leads out of {speech}; give"),
        ({"input": ["{tmp}/gone.csv"]}, "gone.csv does not exist"),
        ({"output": ["{tmp}"]}, "is a folder"),
        ({"output": ["{tmp}/no/out.csv"]}, "there is no folder"),
        ({"output": ["{speech}/a b.wav"]}, "is one of the inputs"),
        ({"embeddings": ["{tmp}/out.csv"]}, "both outputs are one file"),
        ({"window-seconds": [0.5]}, "--window-seconds is 0.5; expected 1 (a chunk's length) to 1000000"),
        ({"window-seconds": ["nan"]}, "--window-seconds is nan"),
        ({"batch-size": [0]}, "--batch-size is 0"),
        ({"workers": [-1]}, "--workers is -1"),
        ({"channel": ["last"]}, "--channel is last; expected mix, first, or a channel's number from 1"),
        ({"channel": [0]}, "--channel is 0; expected mix, first, or a channel's number from 1"),
        ({"input": ["{speech}/broken.wav", "{speech}/notes.txt"]}, "none of the 2 recordings can be used"),
    ],
)
def test_requests_that_cannot_be_carried_out(
    request_with, models: dict[str, Path], speech: Path, tmp_path: Path, changes: dict[str, list], message: str
) -> None:
    if "other" in str(changes):
        (tmp_path / "other").mkdir()
        shutil.copyfile(speech / "a b.wav", tmp_path / "other" / "a b.wav")
    (tmp_path / "table.csv").write_text("file,start,end\na b.wav,0,1\na b.wav,1,2\n")
    (tmp_path / "twice.csv").write_text("file,start,end\na b.wav,0,1\na b.wav,0.0,1.0\n")
    (tmp_path / "out.tsv").write_text("file\tend\n../x.wav\t1\n")
    before = sorted(tmp_path.rglob("*"))
    places = {"tmp": tmp_path, "speech": speech, "table": tmp_path / "table.csv", **models}
    filled = {
        name: [value.format(**places) if isinstance(value, str) else value for value in values]
        for name, values in changes.items()
    }

    with pytest.raises(InputError) as error:
        request_with(**filled)

    assert message.format(**places) in str(error.value)
    assert sorted(tmp_path.rglob("*")) == before  # nothing half-written


def test_a_file_given_beside_its_folder_is_predicted_once(request_with, speech: Path, tmp_path: Path) -> None:
    request_with(input=[speech, speech / "a b.wav"])
    assert [row["file"] for row in read(tmp_path / "out.csv")] == NAMES


def test_the_command_ends_with_status_two_and_one_line(tmp_path: Path) -> None:
    ended = subprocess.run(
        [
            *(sys.executable, "-m", "launch.predict", "--checkpoint", tmp_path, "--input", tmp_path / "no.wav"),
            *("--output", tmp_path / "out.csv"),
        ],
        cwd=PROJECT,
        env={**os.environ, "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 2
    assert ended.stderr.startswith("error: ")
    assert ended.stderr.count("\n") == 1
    assert ended.stdout == ""
