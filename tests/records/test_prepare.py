"""Preparing a corpus: what is in the records, and that it is the same however the work was done."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import pickle
import re
import signal
import subprocess
import sys
from functools import reduce
from itertools import pairwise
from pathlib import Path

import filelock
import numpy as np
import pytest

from emocluster_jax.config import DEFAULT_AUDIO, AudioConfig, FeatureConfig
from emocluster_jax.console import Console
from emocluster_jax.corpora.labels import VAD, label_columns
from emocluster_jax.corpora.segments import segment_suffix
from emocluster_jax.corpora.utterance import Utterance
from emocluster_jax.errors import InputError
from emocluster_jax.preprocessing.audio import read_audio
from emocluster_jax.preprocessing.chunks import mel_chunks
from emocluster_jax.preprocessing.normalization import feature_statistics, merge, no_frames
from emocluster_jax.preprocessing.sources import read_source
from emocluster_jax.preprocessing.spectrogram import mel_spectrogram
from emocluster_jax.records import data_folder, shard_work, writer
from emocluster_jax.records.preparation import GivenStatistics, Layout, Preparation, SkippedRecording, read_preparation
from emocluster_jax.records.reader import open_data
from emocluster_jax.records.shard_work import ShardWork
from emocluster_jax.records.shards import Shard
from emocluster_jax.records.writer import prepare
from emocluster_jax.storage.json_files import sealed
from small_models import noise, write_recording
from small_records import vad

FEATURES = FeatureConfig()
BAD = (
    SkippedRecording("train-021.wav", "silent"),
    SkippedRecording("unlabeled-004.flac", "truncated or damaged: decoding fails half-way"),
)


def prepared(utterances: list[Utterance], data_dir: Path, workers: int = 1, **options) -> Preparation:
    return prepare(utterances, data_dir, FEATURES, "tones", "/tones", workers, Console(quiet=True), **options)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(scope="module")
def data_dir(corpus: list[Utterance], tmp_path_factory: pytest.TempPathFactory) -> Path:
    data_dir = tmp_path_factory.mktemp("data") / "tones"
    prepared(corpus, data_dir)
    return data_dir


def test_records_are_bit_for_bit_what_preprocessing_gives(data_dir: Path, corpus: list[Utterance]) -> None:
    statistics = read_preparation(data_dir).feature_statistics
    left_out = {skipped.id for skipped in BAD}
    for split in ("train", "validation", "test", "unlabeled"):
        arrays = open_data(data_dir).read(split)
        rows = [u for u in corpus if u.split == split and u.id not in left_out]
        assert arrays.ids == [u.id for u in rows]
        assert arrays.speakers == [u.speaker or "" for u in rows]
        assert arrays.genders == [u.gender or "" for u in rows]
        labels = label_columns(rows, arrays.labels.names).values
        np.testing.assert_array_equal(arrays.labels.values, labels.astype(np.float32))
        signals = [read_audio(u.path, 16_000) for u in rows]
        np.testing.assert_allclose(arrays.durations_s, [len(signal) / 16_000 for signal in signals], rtol=1e-6)
        assert arrays.chunks.dtype == np.float16
        for chunks, signal_ in zip(arrays.chunks, signals, strict=True):
            expected = mel_chunks(mel_spectrogram(signal_, FEATURES), FEATURES, statistics).astype(np.float16)
            assert np.array_equal(chunks.view(np.uint16), expected.view(np.uint16))


def test_records_of_other_sounds_in_files_of_the_same_names_and_sizes_are_other_data(tmp_path: Path) -> None:
    made = []
    for seed in (0, 1, 0):
        folder = tmp_path / str(len(made))
        folder.mkdir()
        path = write_recording(folder / "a.wav", noise(2, seed=seed))
        rows = [Utterance("a.wav", path, "train", labels=vad(1.0, 2.0, 3.0))]
        made.append(prepared(rows, folder / "data"))
        assert read_preparation(folder / "data").fingerprint == made[-1].fingerprint
    assert len({preparation.request for preparation in made}) == 1
    assert made[0].fingerprint == made[2].fingerprint != made[1].fingerprint


def test_segments_are_cut_out_of_their_file_which_is_decoded_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_recording(tmp_path / "a.wav", np.concatenate([np.zeros(8_000), noise(3)]).astype(np.float32))
    other = write_recording(tmp_path / "b.wav", noise(2, seed=1))
    times = [(None, None), (0.0, 1.7), (1.25, 3.0), (1.5, None), (3.0, 3.52)]  # up to 50 ms beyond the end is rounding
    bad = {(0.0, 0.5): "all of its 11 chunks are silent", (3.0, 9.0): "the segment reaches beyond the file's end"}
    bad |= {(3.5, None): "the segment is empty", (5.0, None): "the segment reaches beyond the file's end"}
    rows = [
        Utterance(
            f"a.wav{segment_suffix(*pair)}", path, "train", labels=vad(1.0, 1.0, 1.0), start_s=pair[0], end_s=pair[1]
        )
        for pair in (*times, *bad)
    ]
    decoded: list[Path] = []

    def counting(path: Path, *settings) -> np.ndarray:
        decoded.append(path)
        return read_source(path, *settings)

    monkeypatch.setattr(shard_work, "read_source", counting)
    preparation = prepared([*rows, Utterance("b.wav", other, "train")], tmp_path / "data")

    assert decoded == [path, other]
    assert {skipped.id: skipped.reason for skipped in preparation.skipped} == {
        f"a.wav{segment_suffix(*pair)}": reason for pair, reason in bad.items()
    }
    arrays, statistics = open_data(tmp_path / "data").read("train"), preparation.feature_statistics
    chunks = dict(zip(arrays.ids, arrays.chunks, strict=True))
    durations_s = dict(zip(arrays.ids, arrays.durations_s.tolist(), strict=True))
    signal = read_audio(path, 16_000)  # divided by the whole file's peak
    for start_s, end_s in times:
        part = signal[round((start_s or 0) * 16_000) : None if end_s is None else round(end_s * 16_000)]
        id = f"a.wav{segment_suffix(start_s, end_s)}"
        assert durations_s[id] == np.float32(len(part) / 16_000)
        expected = mel_chunks(mel_spectrogram(part, FEATURES), FEATURES, statistics).astype(np.float16)
        assert np.array_equal(chunks[id].view(np.uint16), expected.view(np.uint16))


def test_preparation_says_what_happened(data_dir: Path, corpus: list[Utterance]) -> None:
    preparation = read_preparation(data_dir)
    assert preparation.counts == {"train": 39, "validation": 4, "test": 3, "unlabeled": 17}
    assert preparation.skipped == BAD
    assert preparation.corpus == "tones"
    assert preparation.source == "/tones"
    assert preparation.statistics_from == "train"
    assert preparation.features == FEATURES
    train = [u for u in corpus if u.split == "train" and u.id != BAD[0].id]
    labels = label_columns(train, preparation.labels).values
    np.testing.assert_allclose(preparation.label_statistics.mean[:2], labels.mean(axis=0)[:2], rtol=1e-6)
    np.testing.assert_allclose(preparation.label_statistics.std[:2], labels.std(axis=0)[:2], rtol=1e-6)
    assert np.isnan(preparation.label_statistics.mean[2])
    signals = [read_audio(u.path, 16_000) for u in train]
    assert preparation.hours["train"] == pytest.approx(sum(map(len, signals)) / 16_000 / 3600)
    frames = np.concatenate([mel_spectrogram(s, FEATURES) for s in signals]).astype(np.float64)
    # The sums differ in their order alone; both are float64, rounded to float32 at the end.
    np.testing.assert_allclose(preparation.feature_statistics.mean, frames.mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(preparation.feature_statistics.std, frames.std(axis=0), rtol=1e-6)
    everyone = [u for u in corpus if u.id not in {skipped.id for skipped in BAD}]
    short = [u for u in everyone if 1 + len(read_audio(u.path, 16_000)) // 256 < 62]
    assert preparation.padded == len(short) > 10


@pytest.mark.parametrize("cuts", [[], [1], [13, 14, 30], list(range(1, 40))])
def test_any_partition_into_shards_gives_the_same_statistics(
    data_dir: Path, corpus: list[Utterance], tmp_path: Path, cuts: list[int]
) -> None:
    rows = sorted((u for u in corpus if u.split == "train"), key=lambda u: u.id)
    work, moments = ShardWork(Layout(FEATURES, VAD), DEFAULT_AUDIO, tmp_path), no_frames(FEATURES.mel_bands)
    for i, (start, end) in enumerate(pairwise([0, *cuts, len(rows)])):
        shard = Shard("train", i, tuple(rows[start:end]))
        work.spool(shard)
        moments = reduce(merge, work.moments(shard), moments)
    statistics, expected = feature_statistics(moments), read_preparation(data_dir).feature_statistics
    # To the bit: recordings are merged one by one in the order of their ids, whichever shards they are in.
    assert np.array_equal(statistics.mean, expected.mean)
    assert np.array_equal(statistics.std, expected.std)


def test_two_workers_write_the_same_bytes(data_dir: Path, corpus: list[Utterance], tmp_path: Path) -> None:
    prepared(corpus[::-1], tmp_path / "tones", workers=2)
    assert contents(tmp_path / "tones") == contents(data_dir)
    assert [path.name for path in tmp_path.iterdir()] == ["tones"]


KILLED_RUN = """
import os, pickle, signal, sys
from pathlib import Path
from emocluster_jax.config import FeatureConfig
from emocluster_jax.records import writer
from emocluster_jax.console import Console, Task

if __name__ == "__main__":
    rows, data_dir, moment = pickle.loads(Path(sys.argv[1]).read_bytes()), Path(sys.argv[2]), sys.argv[3]
    kill = lambda: os.kill(os.getpid(), signal.SIGKILL)
    if moment == "publish":
        writer.publish = lambda *_: kill()
    else:
        calls = []
        def advance(self, n=1):
            calls.append(n)
            if len(calls) == int(moment):
                kill()
        Task.advance = advance
    writer.prepare(rows, data_dir, FeatureConfig(), "tones", "/tones", 1, Console(quiet=True))
"""


def test_killed_at_any_moment_it_goes_on(data_dir: Path, corpus: list[Utterance], tmp_path: Path) -> None:
    """Killed after 2 of 3 shards of the first pass, then early in the second, then before the last rename."""
    (tmp_path / "rows").write_bytes(pickle.dumps(corpus))
    (tmp_path / "run.py").write_text(KILLED_RUN)
    target, unfinished = tmp_path / "tones", tmp_path / "tones.preparing"
    inodes: dict[str, int] = {}
    for moment, pattern, count in (
        ("2", "*/*.spool.json", 2),
        ("3", "*/*.array_record", 2),
        ("publish", "*/finished/*", 10),
    ):
        command = [sys.executable, tmp_path / "run.py", tmp_path / "rows", target, moment]
        assert subprocess.run(command).returncode == -signal.SIGKILL
        assert not target.exists()
        done = list(unfinished.glob(pattern))
        assert len(done) == count
        if pattern == "*/*.array_record":
            inodes = {path.name: path.stat().st_ino for path in done}
    preparation = prepared(corpus, target)
    assert contents(target) == contents(data_dir)
    assert preparation.skipped == BAD
    assert not unfinished.exists()
    # Finished files were kept, not written again.
    assert set(inodes.values()) <= {path.stat().st_ino for path in target.iterdir()}


def test_leftovers_of_another_request_are_not_used(corpus: list[Utterance], tmp_path: Path) -> None:
    some = [u for u in corpus if u.split in ("train", "test")][-10:]
    with data_folder.unfinished_folder(tmp_path / "tones", "another request") as folder:
        (folder / "train-00000.json").write_text("{}")
        (folder / "finished").mkdir()
        (folder / "finished" / "stray").write_text("")
    prepared(some, tmp_path / "tones")
    assert "stray" not in contents(tmp_path / "tones")
    assert read_preparation(tmp_path / "tones").counts == {"train": 7, "test": 3}


def test_the_same_request_again_is_not_worked_on(data_dir: Path, corpus: list[Utterance], capsys) -> None:
    before = {path.name: path.stat().st_mtime_ns for path in data_dir.iterdir()}
    again = prepare(corpus, data_dir, FEATURES, "tones", "/tones", 1, Console())
    assert "already" in capsys.readouterr().out
    assert again.counts["train"] == 39
    assert {path.name: path.stat().st_mtime_ns for path in data_dir.iterdir()} == before


def test_another_request_leaves_the_data_alone(data_dir: Path, corpus: list[Utterance]) -> None:
    before = contents(data_dir)
    relabelled = [dataclasses.replace(u, labels=vad(1.0, 1.0, 1.0)) for u in corpus]
    with pytest.raises(InputError, match=r"holds other prepared data .* `data_dir` or remove"):
        prepared(relabelled, data_dir)
    assert contents(data_dir) == before


def test_foreign_places(corpus: list[Utterance], tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("")
    (tmp_path / "file").write_text("")
    (tmp_path / "new.preparing").mkdir()
    (tmp_path / "new.preparing" / "photo.jpg").write_text("")
    before = sorted(tmp_path.rglob("*"))
    for name, message in (
        ("mine", "not a prepared data directory"),
        ("file", "is a file"),
        ("new", "in the way"),
        ("file/x", "cannot be written"),
    ):
        with pytest.raises(InputError, match=message):
            prepared(corpus[:3], tmp_path / name)
    with pytest.raises(InputError, match="mount point"):
        prepared(corpus[:3], Path("/dev/shm") if Path("/dev/shm").is_mount() else Path("/"))
    assert sorted(tmp_path.rglob("*")) == before


def test_an_empty_folder_is_a_fine_place(corpus: list[Utterance], tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "there")
    prepared(corpus[:3], tmp_path / "link")
    assert open_data(tmp_path / "there").read("train").ids == [u.id for u in corpus[:3]]


def test_two_runs_at_once(corpus: list[Utterance], tmp_path: Path) -> None:
    (tmp_path / "tones.preparing").mkdir()
    with (
        filelock.FileLock(tmp_path / "tones.preparing" / "lock"),
        pytest.raises(InputError, match="another process is preparing"),
    ):
        prepared(corpus[:3], tmp_path / "tones")


def test_full_disk(corpus: list[Utterance], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_args, **_options):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(ShardWork, "spool", full)
        with pytest.raises(InputError, match="no space left"):
            prepared(corpus[:3], tmp_path / "tones")
    prepared(corpus[:3], tmp_path / "tones")
    assert read_preparation(tmp_path / "tones").counts == {"train": 3}


def test_nothing_left(corpus: list[Utterance], tmp_path: Path) -> None:
    silent = [u for u in corpus if u.id == BAD[0].id]
    rest = [u for u in corpus if u.split == "test"]
    with pytest.raises(InputError, match=r"none of the 1 recordings of the train split .*train-021.wav: silent"):
        prepared(silent + rest, tmp_path / "tones")
    missing = [dataclasses.replace(u, path=tmp_path / "absent.wav", split="unlabeled") for u in rest]
    with pytest.raises(InputError, match=r"none of the 3 recordings .*no such file"):
        prepared(missing, tmp_path / "tones")
    assert list(tmp_path.iterdir()) == []


def test_a_split_without_usable_recordings_is_left_out(corpus: list[Utterance], tmp_path: Path) -> None:
    lost = [dataclasses.replace(u, path=tmp_path / "absent.wav") for u in corpus if u.split == "test"]
    preparation = prepared(corpus[:3] + lost, tmp_path / "tones")
    assert preparation.counts == {"train": 3}
    assert [skipped.reason for skipped in preparation.skipped] == ["no such file"] * 3
    with pytest.raises(InputError, match="no split 'test'; it has train"):
        open_data(tmp_path / "tones").read("test")


def statistics_of(data_dir: Path) -> GivenStatistics:
    preparation = read_preparation(data_dir)
    return GivenStatistics(preparation.feature_statistics, preparation.features, str(data_dir))


def test_unlabelled_recordings_alone(data_dir: Path, corpus: list[Utterance], tmp_path: Path, capsys) -> None:
    pool = [u for u in corpus if u.split == "unlabeled"]
    own = prepare(pool, tmp_path / "own", FEATURES, "tones", "/tones", 1, Console())
    assert "statistics of the unlabelled recordings" in capsys.readouterr().out
    assert own.statistics_from == "unlabeled"
    assert np.isnan(own.label_statistics.mean).all()
    borrowed = prepared(pool, tmp_path / "borrowed", given=statistics_of(data_dir))
    assert borrowed.statistics_from == str(data_dir)
    original = open_data(data_dir).read("unlabeled")
    assert np.array_equal(open_data(tmp_path / "borrowed").read("unlabeled").chunks, original.chunks)
    assert not np.array_equal(open_data(tmp_path / "own").read("unlabeled").chunks, original.chunks)


def test_nothing_to_normalise_by(data_dir: Path, corpus: list[Utterance], tmp_path: Path) -> None:
    test = [u for u in corpus if u.split == "test"]
    with pytest.raises(InputError, match="`statistics_from`"):
        prepared(test, tmp_path / "tones")
    with pytest.raises(InputError, match="other feature settings"):
        other = FeatureConfig(clip=4.0)
        prepare(test, tmp_path / "t", other, "", "", 1, Console(quiet=True), given=statistics_of(data_dir))
    assert prepared(test, tmp_path / "tones", given=statistics_of(data_dir)).counts == {"test": 3}


def test_a_worker_that_dies(corpus: list[Utterance], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(writer, "ShardWork", DyingWork)
        with pytest.raises(InputError, match="a worker process died"):
            prepared(corpus[:20], tmp_path / "tones", workers=2)
    assert prepared(corpus[:20], tmp_path / "tones").counts == {"train": 20}


def test_a_script_that_its_workers_would_repeat(tmp_path: Path) -> None:
    (tmp_path / "speech").mkdir()
    for name in ("a.wav", "b.wav"):
        write_recording(tmp_path / "speech" / name, noise(1.0))
    (tmp_path / "speech" / "manifest.csv").write_text("file,split,arousal\na.wav,train,1\nb.wav,test,2\n")
    script = tmp_path / "script.py"
    script.write_text("import emocluster_jax\nemocluster_jax.prepare('manifest', 'speech', 'data', workers=2)\n")
    ended = subprocess.run([sys.executable, script], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert re.search(r"InputError: .*below `if __name__ == \"__main__\":`", ended.stderr.splitlines()[-1]), ended.stderr


class DyingWork(ShardWork):
    def write(self, *_args, **_options) -> None:
        os.kill(os.getpid(), signal.SIGKILL)


@pytest.fixture
def conditions(tmp_path: Path) -> list[Utterance]:
    """Recordings in the conditions that are noticed, all for training."""
    speech = noise(3.0)
    stereo = np.stack([speech, noise(3.0, seed=1)])
    silence = np.zeros((47 + 64) * 16_000, np.float32)
    signals = {
        "cancel.wav": np.stack([speech, -speech]),
        "clipped.wav": np.clip(9 * np.concatenate([speech, -speech]), -1, 1),
        "offset.wav": np.stack([speech + 0.1, noise(3.0, seed=2)]),
        "plain.wav": stereo,
        "missed.wav": np.insert(silence, 47 * 16_000, noise(4.0)),  # between the chunks at 45.6 s and 57.0 s
        "pause.wav": np.concatenate([silence[: 5 * 16_000], speech]),
    }
    return [Utterance(name, write_recording(tmp_path / name, signal), "train") for name, signal in signals.items()]


def test_what_is_noticed_is_counted_and_silence_left_out(conditions: list[Utterance], tmp_path: Path) -> None:
    preparation = prepared(conditions, tmp_path / "data")
    assert preparation.skipped == (
        SkippedRecording("cancel.wav", "the channels cancel: their mean is silent; `channel=first` takes one of them"),
        SkippedRecording("missed.wav", "all of its 11 chunks are silent"),
    )
    assert preparation.noticed == {"clipped": 1, "dc_offset": 1, "silent_chunks": 1}
    assert preparation.audio == AudioConfig()
    read = read_preparation(tmp_path / "data")
    assert (read.noticed, read.audio) == (preparation.noticed, preparation.audio)
    # The second pass decodes what the first has not.
    both = [*conditions, *(dataclasses.replace(u, id=f"{u.id}2", split="unlabeled") for u in conditions)]
    assert prepared(both, tmp_path / "both").noticed == {"clipped": 2, "dc_offset": 2, "silent_chunks": 2}


@pytest.mark.parametrize("workers", [1, 2])
def test_records_are_of_the_chosen_channel_without_its_offset(
    conditions: list[Utterance], tmp_path: Path, workers: int
) -> None:
    audio = AudioConfig(channel=1, remove_dc=True)
    preparation = prepared(conditions, tmp_path / "data", workers, audio=audio)
    assert preparation.counts == {"train": 5} and preparation.audio == audio
    assert read_preparation(tmp_path / "data").audio == audio
    arrays = open_data(tmp_path / "data").read("train")
    paths = {u.id: u.path for u in conditions}
    assert arrays.ids == [name for name in sorted(paths) if name != "missed.wav"]
    for name, chunks in zip(arrays.ids, arrays.chunks, strict=True):
        signal_ = read_audio(paths[name], 16_000, audio)
        expected = mel_chunks(mel_spectrogram(signal_, FEATURES), FEATURES, preparation.feature_statistics).astype(
            np.float16
        )
        assert np.array_equal(chunks, expected)
    with pytest.raises(InputError, match="holds other prepared data"):
        prepared(conditions, tmp_path / "data")
    second = prepared(conditions, tmp_path / "second", audio=AudioConfig(channel=2))
    assert SkippedRecording("clipped.wav", "no channel 2: it has 1") in second.skipped and second.counts == {"train": 3}


def test_data_from_before_audio_settings_are_read_and_used_again(corpus: list[Utterance], data_dir: Path) -> None:
    path = data_dir / "preparation.json"
    content = path.read_bytes()
    values = json.loads(content)
    del values["audio"], values["noticed"], values["sha256"]
    try:
        path.write_text(json.dumps(sealed(values)))
        again = prepared(corpus, data_dir)
    finally:
        path.write_bytes(content)
    assert (again.audio, again.noticed, again.padded) == (AudioConfig(), {}, read_preparation(data_dir).padded)
