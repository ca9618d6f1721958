"""Reading data directories: whole and in part, by TFDS, and what damaged ones get."""

from __future__ import annotations

import dataclasses
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from emocluster_jax.config import FeatureConfig
from emocluster_jax.console import Console
from emocluster_jax.corpora.labels import VAD
from emocluster_jax.corpora.utterance import Utterance
from emocluster_jax.errors import InputError
from emocluster_jax.records.preparation import METADATA, label_statistics, read_preparation, write_preparation
from emocluster_jax.records.reader import open_data
from emocluster_jax.records.writer import prepare
from emocluster_jax.storage.json_files import sealed
from small_records import vad


@pytest.fixture(scope="module")
def data_dir(corpus: list[Utterance], tmp_path_factory: pytest.TempPathFactory) -> Path:
    data_dir = tmp_path_factory.mktemp("data") / "tones"
    prepare(corpus, data_dir, FeatureConfig(), "tones", "/tones", 1, Console(quiet=True))
    return data_dir


@pytest.fixture
def copy(data_dir: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(data_dir, tmp_path / "copy"))


def test_chosen_recordings_in_the_order_asked_for(data_dir: Path) -> None:
    everything = open_data(data_dir).read("train")
    indices = np.random.default_rng(0).permutation(len(everything))[:25]
    counts: list[int] = []
    some = open_data(data_dir).read("train", indices, counts.append)
    assert sum(counts) == len(some) == 25
    assert some.ids == [everything.ids[i] for i in indices]
    assert some.speakers == [everything.speakers[i] for i in indices]
    assert np.array_equal(some.chunks, everything.chunks[indices])
    np.testing.assert_array_equal(some.labels.values, everything.labels.values[indices])
    np.testing.assert_array_equal(some.durations_s, everything.durations_s[indices])
    assert len(open_data(data_dir).read("train", [])) == 0


def test_all_but_the_chunks(data_dir: Path) -> None:
    everything = vars(open_data(data_dir).read("train"))
    descriptions = vars(open_data(data_dir).describe("train"))
    assert set(everything) - set(descriptions) == {"chunks", "inputs"}
    np.testing.assert_array_equal(descriptions.pop("labels").values, everything["labels"].values)
    for name, values in descriptions.items():
        np.testing.assert_array_equal(values, everything[name])


@pytest.mark.parametrize(
    ("indices", "message"), [([39], "outside the 39"), ([-1], "outside"), ([3, 3], "asked for twice")]
)
def test_impossible_choices(data_dir: Path, indices: list[int], message: str) -> None:
    with pytest.raises(InputError, match=message):
        open_data(data_dir).read("train", indices)


def test_tfds_reads_it_without_tensorflow_and_without_this_project(data_dir: Path, tmp_path: Path) -> None:
    code = """
import sys, numpy as np, tensorflow_datasets as tfds
builder = tfds.builder_from_directory(sys.argv[1])
assert builder.info.splits["train"].num_examples == 39
source = builder.as_data_source("train")
assert len(source) == 39
records = [source[i] for i in range(39)]
np.savez(sys.argv[2], chunks=[r["chunks"] for r in records], attributes=[r["attributes"] for r in records])
assert records[0]["id"] == b"train-000.wav" and records[0]["speaker"] == b"speaker0"
assert builder.as_data_source("unlabeled[:5]")[4]["gender"] == b""
assert not {"tensorflow", "emocluster_jax", "jax"} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code, data_dir, tmp_path / "read.npz"], check=True, cwd=tmp_path)
    arrays = open_data(data_dir).read("train")
    with np.load(tmp_path / "read.npz") as read:
        assert np.array_equal(read["chunks"], arrays.chunks)
        assert read["chunks"].dtype == np.float16
        np.testing.assert_array_equal(read["attributes"], arrays.labels.values)


def test_one_flipped_bit(copy: Path) -> None:
    damaged = sorted(copy.glob("*train*"))[1]
    content = bytearray(damaged.read_bytes())
    content[len(content) // 2] ^= 1
    damaged.write_bytes(content)
    with pytest.raises(InputError, match=rf"{damaged.name} is damaged"):
        open_data(copy).read("train")
    assert len(open_data(copy).read("train", range(16))) == 16  # the first file is whole
    assert len(open_data(copy).read("test")) == 3


def test_a_record_file_is_gone(copy: Path) -> None:
    (name,) = [path.name for path in copy.glob("*test*")]
    (copy / name).unlink()
    with pytest.raises(InputError, match=f"{name} cannot be read"):
        open_data(copy).read("test")


def test_preparation_round_trip(data_dir: Path, tmp_path: Path) -> None:
    preparation = read_preparation(data_dir)
    write_preparation(tmp_path, preparation)
    for name in METADATA:
        shutil.copy(data_dir / name, tmp_path)
    again = read_preparation(tmp_path)
    for field in dataclasses.fields(preparation):
        ours, theirs = getattr(preparation, field.name), getattr(again, field.name)
        if field.name.endswith("_statistics"):
            np.testing.assert_array_equal(ours.mean, theirs.mean)
            np.testing.assert_array_equal(ours.std, theirs.std)
        else:
            assert ours == theirs
    assert (tmp_path / "preparation.json").read_bytes() == (data_dir / "preparation.json").read_bytes()


def test_a_preparation_of_more_recordings_than_its_files_can_hold(copy: Path) -> None:
    """Nothing is allocated for them."""
    path = copy / "preparation.json"
    values = json.loads(path.read_text())
    (test,) = [file for file in values["files"] if file["split"] == "test"]
    test["records"] = values["counts"]["test"] = 10**15
    path.write_text(json.dumps(sealed(values)))
    with pytest.raises(InputError, match=rf"{test['name']} is too short for {10**15} recordings"):
        open_data(copy).read("test")


def test_no_data(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no data directory at .*`prepare\(\)`"):
        read_preparation(tmp_path / "absent")
    with pytest.raises(InputError, match=r"not a prepared data directory.*prepare"):
        open_data(tmp_path).read("train")


def _set(path: list[str | int], value):
    def change(values):
        for key in path[:-1]:
            values = values[key]
        values[path[-1]] = value

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_set(["format_version"], 99), "format version 99, and this program reads version"),
        (lambda values: values.pop("format_version"), "format version None"),
        (lambda values: values.pop("counts"), "damaged: no entry 'counts'"),
        (_set(["counts", "train"], 38), "38 recordings of the split 'train'"),
        (_set(["counts"], 5), "damaged"),
        (_set(["counts", "eval"], 0), "unknown split"),
        (_set(["hours"], {}), "different splits"),
        (_set(["feature_statistics", "mean"], [1.0]), "1 statistics instead of 128"),
        (_set(["feature_statistics", "std"], "x" * 128), "damaged"),
        (_set(["feature_statistics", "std", 3], None), "a feature statistic is missing"),
        (_set(["label_statistics", "mean", 0], 1e308), "infinite statistics"),
        (_set(["features", "chunk_frames"], 10**12), "`chunk_frames` is 1000000000000; expected 1 to 4096"),
        (_set(["files", 0, "records"], -1), "do not hold the 39 recordings"),
        (_set(["label_statistics"], None), "damaged"),
        (_set(["features", "mel_bands"], "many"), "mel_bands is 'many'"),
        (_set(["features", "hue"], 1), "unknown setting 'hue'"),
        (_set(["files", 0, "name"], "../../etc/passwd"), "outside the directory"),
        (_set(["source"], 5), "source is 5; expected str"),
        (_set(["skipped"], [{}]), "skipped: no setting 'id'; remove"),
        (_set(["counts", "train"], "39"), "counts: train is '39'; expected 0 to"),
        (_set(["hours", "train"], -1), "hours: train is -1; expected 0 to"),
        (_set(["hours", "train"], True), "hours: train is True; expected 0 to"),
        (_set(["padded"], "1_0"), "padded is '1_0'; expected 0 to"),
        (_set(["noticed"], {"silent": 10**30}), r"the number 10000000000000000000\.\.\. is too large"),
        (_set(["feature_statistics", "mean", 0], "5"), "a statistic is not a number"),
        (_set(["label_statistics", "std", 0], True), "a statistic is not a number"),
        (_set(["label_statistics", "std", 0], -1.0), "a label's standard deviation is below 0"),
    ],
)
def test_damaged_preparation(copy: Path, change, message: str) -> None:
    path = copy / "preparation.json"
    values = json.loads(path.read_text())
    change(values)
    path.write_text(json.dumps(sealed(values)))
    with pytest.raises(InputError, match=message):
        read_preparation(copy)


@pytest.mark.parametrize("content", ["", "[]", '{"format_version": 1', "null", "\udcff"])
def test_preparation_that_is_no_json_object(copy: Path, content: str) -> None:
    (copy / "preparation.json").write_bytes(content.encode(errors="surrogateescape"))
    with pytest.raises(InputError, match=r"preparation.json (cannot be read|is not a JSON object|is of format)"):
        read_preparation(copy)


def test_label_statistics_over_finite_labels() -> None:
    nan = float("nan")
    labels = [(1.0, 2.0, nan), (3.0, nan, nan), (nan, 4.0, nan)]
    rows = [Utterance(f"{i}", Path("x"), "train", labels=vad(*values)) for i, values in enumerate(labels)]
    for statistics in (label_statistics(rows, VAD), label_statistics(rows[::-1], VAD)):
        np.testing.assert_array_equal(statistics.mean, [2, 3, nan])
        np.testing.assert_array_equal(statistics.std, [1, 1, nan])
    assert np.isnan(label_statistics([], VAD).std).all()
