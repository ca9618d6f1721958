"""One flipped bit in any file that training, evaluation or prediction rely on: found, and the file named."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
import soundfile

from emocluster_jax.checksums import CHECKSUMS
from emocluster_jax.clustering.embedding_transform import EmbeddingTransform
from emocluster_jax.config import DEFAULT_AUDIO, ClusteringConfig, FeatureConfig, TrainConfig
from emocluster_jax.corpora.utterance import Utterance
from emocluster_jax.errors import InputError
from emocluster_jax.feed.from_records import load_split
from emocluster_jax.model_directory import read_model, save_model
from emocluster_jax.preprocessing.normalization import FeatureStatistics
from emocluster_jax.records.chunk_source import ChunkSource
from emocluster_jax.records.preparation import read_preparation
from emocluster_jax.records.reader import read_split
from emocluster_jax.records.shard_work import read_report, spool_shard, spooled_moments, write_shard
from emocluster_jax.records.shards import plan_shards
from emocluster_jax.reporting.console import Console
from emocluster_jax.training.checkpoints import Checkpoint, Progress, restore_checkpoint, save_checkpoint
from emocluster_jax.training.state import TrainState
from emocluster_jax.training.workdir import assignments_file, claim, read_assignments, read_run
from small_models import small_model
from small_records import write_records

FEATURES = FeatureConfig(mel_bands=4, chunk_frames=2, chunks_per_utterance=2)


def flips(path: Path, count: int) -> Iterator[None]:
    """Flips one bit of the file after the other, each only until the next.

    Half of the places are anywhere, half where the file is not zero: ArrayRecord fills its files up.
    """
    whole, random = path.read_bytes(), np.random.default_rng(0)
    anywhere = random.integers(8 * len(whole), size=count // 2)
    bytes_in_use = random.choice(np.flatnonzero(np.frombuffer(whole, np.uint8)), count - len(anywhere))
    for place in [*anywhere, *(8 * bytes_in_use + random.integers(8, size=len(bytes_in_use)))]:
        content = bytearray(whole)
        content[place // 8] ^= 1 << place % 8
        path.write_bytes(content)
        yield
    path.write_bytes(whole)


def files_below(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def found(read: Callable[[], Any], path: Path) -> bool:
    """Whether reading ends in one line that names the file; without any error it must be what was there before."""
    try:
        read()
    except InputError as error:
        assert path.name in str(error) and str(error).isprintable(), error
        return True
    return False


def same(one: Any, other: Any) -> bool:
    """Equality to the bit of dataclasses, lists, dictionaries and arrays, NaN included."""
    leaves = [jax.tree.leaves(_plain(value)) for value in (one, other)]
    return jax.tree.structure(_plain(one)) == jax.tree.structure(_plain(other)) and all(
        np.asarray(a).dtype == np.asarray(b).dtype and np.asarray(a).tobytes() == np.asarray(b).tobytes()
        for a, b in zip(*leaves, strict=True)
    )


def _plain(value: Any) -> Any:
    return dataclasses.asdict(value) if dataclasses.is_dataclass(value) and not isinstance(value, type) else value


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two record files for training and one for the test."""
    rng = np.random.default_rng(1)
    data_dir = tmp_path_factory.mktemp("data") / "records"
    splits = {
        split: (rng.normal(size=(count, 2, 2, 4)).astype(np.float16), rng.normal(size=(count, 3)).astype(np.float32))
        for split, count in (("train", 8), ("test", 3))
    }
    write_records(data_dir, FEATURES, splits)
    return data_dir


@pytest.mark.parametrize("feed", ["resident", "streamed"])
def test_records(data_dir: Path, feed: Any) -> None:
    preparation = read_preparation(data_dir)
    for file in preparation.files:
        for _ in flips(data_dir / file.name, 15):
            assert found(
                lambda: load_split(data_dir, preparation, file.split, Console(quiet=True), feed=feed),  # noqa: B023
                data_dir / file.name,
            )


def test_records_that_are_damaged_after_a_streaming_run_began(data_dir: Path) -> None:
    """What ArrayRecord's own checksums do not cover decides on nothing."""
    preparation, expected = read_preparation(data_dir), read_split(data_dir, "train").chunks
    path = data_dir / preparation.files[1].name
    began = ChunkSource(data_dir, preparation, "train")
    was_found = []
    for _ in flips(path, 150):
        for source in (began, ChunkSource(data_dir, preparation, "train")):
            read: list[np.ndarray] = []
            was_found.append(found(lambda: read.extend(source[i] for i in range(len(expected))), path))  # noqa: B023
            np.testing.assert_array_equal(read, expected[: len(read)])
    assert np.mean(was_found) > 0.2  # the file is 128 KiB of mostly zeros


@pytest.mark.parametrize("name", ["preparation.json", "dataset_info.json", "features.json"])
def test_statistics_and_metadata(data_dir: Path, name: str) -> None:
    expected = read_preparation(data_dir)
    was_found = [
        found(lambda: _must_be(expected, read_preparation(data_dir)), data_dir / name)
        for _ in flips(data_dir / name, 300)
    ]
    # Of preparation.json, blanks and digits beyond a float's precision may change.
    assert np.mean(was_found) > 0.8 if name == "preparation.json" else all(was_found)


def _must_be(expected: Any, read: Any) -> None:
    assert same(expected, read)


def test_model_directory(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    transform = EmbeddingTransform(rng.normal(size=32).astype(np.float32), rng.normal(size=(32, 8)).astype(np.float32))
    model = small_model(
        clustering=ClusteringConfig(pca_components=8),
        transform=transform,
        centroids=rng.normal(size=(5, 8)).astype(np.float32),
    )
    save_model(tmp_path, model)
    for path in files_below(tmp_path):
        was_found = [found(lambda: _must_be(model, read_model(tmp_path)), path) for _ in flips(path, 5)]
        assert all(was_found) or path.name == "model.json"
    description = tmp_path / "model.json"
    was_found = [found(lambda: _must_be(model, read_model(tmp_path)), description) for _ in flips(description, 40)]
    assert np.mean(was_found) > 0.7
    assert (tmp_path / "weights-000000" / CHECKSUMS).exists()


def test_checkpoint(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    params = {"dense": {"kernel": rng.normal(size=(30, 20)).astype(np.float32)}}
    state = TrainState(params, {"mean": np.zeros(20, np.float32)}, {"stage2": (np.int32(7), params)})  # type: ignore[arg-type]
    for epoch in (1, 2, 3):
        save_checkpoint(tmp_path, Checkpoint(state, Progress(epoch, best_epoch=1, best_ccc=0.5)))
    first, second = sorted(tmp_path.iterdir())
    assert (first.name, second.name) == ("epoch-000002", "epoch-000003")
    for path in files_below(second):
        for _ in flips(path, 10):
            assert found(lambda: restore_checkpoint(tmp_path, state), path)
    with pytest.raises(InputError, match=rf"remove {second} and resume: the run then goes on from epoch-000002"):
        next(flips(files_below(second)[0], 1))
        restore_checkpoint(tmp_path, state)
    shutil.rmtree(second)
    restored = restore_checkpoint(tmp_path, state)
    assert restored is not None and same(restored[0], state) and restored[1].epoch == 2
    next(flips(files_below(first)[0], 1))
    with pytest.raises(InputError, match=rf"remove {first} and resume: the run then goes on from the start"):
        restore_checkpoint(tmp_path, state)


def test_run_file_and_assignments(tmp_path: Path) -> None:
    claim(tmp_path, TrainConfig(), "fingerprint", resume=False)
    expected = read_run(tmp_path)
    was_found = [
        found(lambda: _must_be(expected, read_run(tmp_path)), p) for p in _each_flip(tmp_path / "run.json", 200)
    ]
    assert np.mean(was_found) > 0.7

    path = assignments_file(tmp_path, 3)
    path.parent.mkdir()
    clusters = {name: np.random.default_rng(0).integers(9, size=200).astype(np.int32) for name in ("stage1", "stage2")}
    np.savez_compressed(path, **clusters)

    def read() -> None:
        # An array may be lost, with its entry in the ZIP file's list, but none is changed.
        for name, assignments in read_assignments(tmp_path, 3).items():
            np.testing.assert_array_equal(assignments, clusters[name])

    # A ZIP file says much twice, or of no use here: dates, system, attributes.
    assert np.mean([found(read, path) for _ in flips(path, 200)]) > 0.6


def _each_flip(path: Path, count: int) -> Iterator[Path]:
    for _ in flips(path, count):
        yield path


def test_unfinished_preparation(tmp_path: Path) -> None:
    """What one pass leaves for the next, or a killed preparation for its resumption."""
    rate, features = 16_000, FeatureConfig(mel_bands=8)
    rows = []
    for i in range(2):
        soundfile.write(tmp_path / f"{i}.wav", np.random.default_rng(i).normal(0, 0.1, rate), rate)
        rows.append(Utterance(f"{i}.wav", tmp_path / f"{i}.wav", "train", attributes=(1.0, 2.0, 3.0)))
    (shard,) = plan_shards(rows)
    folder = tmp_path / "work"
    folder.mkdir()
    spool_shard(shard, features, DEFAULT_AUDIO, folder)
    statistics = FeatureStatistics(np.zeros(8, np.float32), np.ones(8, np.float32))
    moments = list(spooled_moments(shard, folder))
    for path in files_below(folder):
        # The spectrograms are read by the second pass alone, which ends before it writes anything.
        read = {
            ".mel": lambda: write_shard(shard, features, DEFAULT_AUDIO, statistics, folder),
        }.get(path.suffix, lambda: _must_be(moments, list(spooled_moments(shard, folder))))
        was_found = [found(read, path) for _ in flips(path, 25)]
        assert all(was_found) or (path.suffix == ".json" and np.mean(was_found) > 0.7)
    write_shard(shard, features, DEFAULT_AUDIO, statistics, folder)
    report = read_report(shard, folder)
    path = folder / f"{shard.name}.json"
    assert np.mean([found(lambda: _must_be(report, read_report(shard, folder)), p) for p in _each_flip(path, 25)]) > 0.7
