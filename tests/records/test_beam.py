"""Preparing on Apache Beam's runner in Python: the same bytes, and what happens when workers fail."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import numpy as np
import pytest

from emocluster_jax.config import FeatureConfig
from emocluster_jax.console import Console
from emocluster_jax.corpora.utterance import Utterance
from emocluster_jax.errors import InputError
from emocluster_jax.preprocessing.normalization import Statistics
from emocluster_jax.records import beam, writer
from emocluster_jax.records.beam import BeamRunner, beam_runner, run_on_beam
from emocluster_jax.records.crashes import Examined
from emocluster_jax.records.preparation import Preparation
from emocluster_jax.records.shard_work import ShardWork
from emocluster_jax.records.shards import Shard, plan_shards
from emocluster_jax.records.workers import ShardPass
from emocluster_jax.records.writer import prepare

pytest.importorskip("apache_beam", reason='Apache Beam is not installed; pip install "emocluster_jax[beam]"')

IN_THIS_PROCESS = ()
TWO_PROCESSES = ("direct_num_workers=2", "direct_running_mode=multi_processing")


def direct(options: tuple[str, ...] = IN_THIS_PROCESS) -> BeamRunner:
    return beam_runner("DirectRunner", options)


def prepared(utterances: list[Utterance], data_dir: Path, workers: int | BeamRunner) -> Preparation:
    return prepare(utterances, data_dir, FeatureConfig(), "tones", "/tones", workers, Console(quiet=True))


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(scope="module")
def expected(corpus: list[Utterance], tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What local processes make of the corpus, two of whose recordings cannot be used."""
    data_dir = tmp_path_factory.mktemp("data") / "tones"
    prepared(corpus, data_dir, workers=1)
    return contents(data_dir)


def test_worker_processes_write_the_same_bytes(
    corpus: list[Utterance], expected: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rows are given from another folder than the workers', with paths relative to it and in another order."""
    monkeypatch.chdir(corpus[0].path.parent)
    monkeypatch.setenv("PYTHONPATH", str(Path(beam.__file__).parents[2]))
    rows = [dataclasses.replace(u, path=Path(u.path.name)) for u in corpus[::-1]]
    preparation = prepared(rows, tmp_path / "tones", direct(TWO_PROCESSES))
    assert contents(tmp_path / "tones") == expected
    assert [skipped.id for skipped in preparation.skipped] == ["train-021.wav", "unlabeled-004.flac"]
    assert [path.name for path in tmp_path.iterdir()] == ["tones"]


def test_workers_cut_segments_and_read_further_inputs_too(corpus: list[Utterance], tmp_path: Path) -> None:
    np.save(tmp_path / "text.npy", np.ones(3, np.float32))
    times, inputs = [(None, None), (0.0, 0.2), (0.1, None)], {"text": tmp_path / "text.npy"}
    rows = [
        dataclasses.replace(corpus[0], id=f"{i}", start_s=t[0], end_s=t[1], inputs=inputs) for i, t in enumerate(times)
    ]
    for name, workers in (("here", 1), ("beam", direct())):
        assert prepared(rows, tmp_path / name, workers).counts == {"train": 3}
    assert contents(tmp_path / "beam") == contents(tmp_path / "here")


def burn(shard: Shard) -> None:
    if shard.name == "train-00001":
        raise OSError("the disk is on fire")


class SpoolFails(ShardWork):
    def spool(self, shard: Shard) -> None:
        burn(shard)
        super().spool(shard)


class WriteFails(ShardWork):
    def write(self, shard: Shard, statistics: Statistics) -> None:
        burn(shard)
        super().write(shard, statistics)


@pytest.mark.parametrize("work", [SpoolFails, WriteFails])
def test_shards_that_fail_are_done_by_the_next_run(
    work: type[ShardWork],
    corpus: list[Utterance],
    expected: dict[str, bytes],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(writer, "ShardWork", work)
        with pytest.raises(InputError, match=r"left 1 of \d shards undone \(first: train-00001\)"):
            prepared(corpus, tmp_path / "tones", direct())
    suffix, count = ("spool.json", 2) if work is SpoolFails else ("array_record", 6)
    done = {path: path.stat().st_ino for path in tmp_path.glob(f"*/*/*.{suffix}")}
    assert len(done) == count

    # Local processes go on where Beam stopped, as does Beam.
    prepared(corpus, tmp_path / "tones", direct() if work is WriteFails else 1)
    assert contents(tmp_path / "tones") == expected
    if work is WriteFails:
        assert set(done.values()) <= {path.stat().st_ino for path in (tmp_path / "tones").iterdir()}


def test_workers_that_do_not_see_the_recordings_skip_none(
    corpus: list[Utterance], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A recording that this process finds missing is skipped; one that a worker alone misses is its failure."""
    element = beam._element

    def elsewhere(shard: Shard, folder: Path) -> tuple[str, str | None]:
        name, recording = element(shard, folder)
        return name, recording and f"/no/mount{recording}"

    rows = [dataclasses.replace(corpus[0], path=tmp_path / "absent.wav"), *corpus[1:3]]
    with monkeypatch.context() as patch:
        patch.setattr(beam, "_element", elsewhere)
        with pytest.raises(InputError, match=r"under these very paths"):
            prepared(rows, tmp_path / "tones", direct())
    preparation = prepared(rows, tmp_path / "tones", direct())
    assert preparation.counts == {"train": 2}
    assert [skipped.reason for skipped in preparation.skipped] == ["no such file"]


def test_an_element_given_twice_is_worked_on_once(corpus: list[Utterance], tmp_path: Path) -> None:
    (shard,) = [shard for shard in plan_shards(corpus) if shard.split == "test"]
    shard_pass = ShardPass(Marker(tmp_path), lambda shard: (tmp_path / shard.name).exists(), lambda _: Examined([], []))
    done: list[Shard] = []
    run_on_beam(direct(), tmp_path, shard_pass, [shard], done.append)
    assert done == [shard]
    # As when a runner takes a worker for dead that is not.
    run_on_beam(direct(), tmp_path, shard_pass._replace(work=_fail), [shard], done.append)
    assert done == [shard, shard]


@dataclasses.dataclass(frozen=True)
class Marker:
    folder: Path

    def __call__(self, shard: Shard) -> None:
        (self.folder / shard.name).touch()


def _fail(shard: Shard) -> None:
    raise AssertionError(f"{shard.name} was done already")


def test_a_cluster_that_does_not_answer_is_one_line(corpus: list[Utterance], tmp_path: Path) -> None:
    runner = beam_runner(
        "PortableRunner", ["job_endpoint=localhost:9", "environment_type=LOOPBACK", "job_server_timeout=1"]
    )
    with pytest.raises(InputError, match=r"Beam's PortableRunner failed: .+; the same command again"):
        prepared(corpus[:3], tmp_path / "tones", runner)


@pytest.mark.parametrize(
    ("runner", "options", "culprit"),
    [
        ("SlinkRunner", [], "`beam=SlinkRunner`"),
        ("no.such.Runner", [], "`beam=no.such.Runner`"),
        ("DirectRunner", ["--direct_num_workers=2"], "without dashes"),
        ("DirectRunner", ["runner=FlinkRunner"], "runner=FlinkRunner"),
        ("DirectRunner", ["direct_num_workers=many"], "direct_num_workers.*many"),
        ("DataflowRunner", [], "^`beam_options` do not suit DataflowRunner: .*Missing required option: project.*name="),
        ("FlinkRunner", ["environment_type=PROCESS"], "process_command is required for environment type PROCESS"),
    ],
)
def test_runners_and_options_that_do_not_exist(runner: str, options: list[str], culprit: str) -> None:
    with pytest.raises(InputError, match=culprit):
        beam_runner(runner, options)


def test_dataflow_without_its_client_names_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "google.cloud.dataflow", None)
    options = ["project=some-project", "region=europe-west1", "temp_location=gs://bucket/tmp"]
    with pytest.raises(InputError, match=r"apache-beam\[gcp\]"):
        beam_runner("DataflowRunner", options)
