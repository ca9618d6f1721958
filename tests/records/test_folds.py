"""Folds by speaker: dealt out, written beside the records, and read back split by split."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from emocluster_jax.config import FeatureConfig
from emocluster_jax.console import Console
from emocluster_jax.corpora.labels import label_columns
from emocluster_jax.corpora.utterance import Utterance
from emocluster_jax.errors import InputError
from emocluster_jax.feed.from_records import load_split
from emocluster_jax.records.folds import LABELED_SPLITS, deal_folds, describe_fold, split_counts
from emocluster_jax.records.preparation import FILE_NAME, read_preparation
from emocluster_jax.records.reader import ChunkSource, open_data
from emocluster_jax.records.shards import request_sha256
from emocluster_jax.records.writer import prepare
from emocluster_jax.storage.json_files import sealed
from small_records import vad, write_records
from small_training import FEATURES, draw_recordings

UNUSABLE = {"train-021.wav", "unlabeled-004.flac"}


def rows_of(speakers: list[str | None]) -> list[Utterance]:
    return [Utterance(f"{i:03d}.wav", Path("x"), "train", speaker) for i, speaker in enumerate(speakers)]


def test_folds_are_of_about_equally_many_recordings_and_of_whole_speakers() -> None:
    utterances = rows_of([f"s{number}" for number in range(20) for _ in range(3 + number % 7)])
    folds = deal_folds(utterances, 5)
    sizes = Counter(folds.of_recordings)
    # The largest speaker has nine recordings, and each speaker goes where most is lacking.
    assert set(sizes) == {1, 2, 3, 4, 5} and max(sizes.values()) - min(sizes.values()) < 9
    of_speaker = {(u.speaker, fold) for u, fold in zip(utterances, folds.of_recordings, strict=True)}
    assert len(of_speaker) == 20 == sum(map(len, folds.speakers))
    assert all(speaker in folds.speakers[fold - 1] for speaker, fold in of_speaker)
    turned = deal_folds(utterances[::-1], 5)
    assert turned.speakers == folds.speakers and turned.of_recordings == folds.of_recordings[::-1]


def test_a_fold_for_each_speaker_in_the_order_of_names() -> None:
    folds = deal_folds(rows_of(["ben", "anna", "carla", "anna"]), "speakers")
    assert folds.speakers == (("anna",), ("ben",), ("carla",)) and folds.of_recordings == (2, 1, 3, 1)


def test_recordings_of_unknown_speakers_are_speakers_of_their_own() -> None:
    folds = deal_folds(rows_of([None, "anna", None, "anna"]), "speakers")
    assert len(set(folds.of_recordings)) == folds.count == 3
    assert folds.of_recordings[1] == folds.of_recordings[3]
    assert sorted(folds.speakers) == [(), (), ("anna",)]


@pytest.mark.parametrize("wanted", [2, 0, True])
def test_what_no_recordings_can_have(wanted: int) -> None:
    with pytest.raises(InputError, match=r"`folds` is .*; expected speakers, or a number from 3 to 1000000"):
        deal_folds(rows_of(["anna"]), wanted)


@pytest.mark.parametrize(("wanted", "speakers"), [(4, ["a", "b", "c"]), ("speakers", ["a", "b", "a"]), (3, [])])
def test_too_few_speakers(wanted: object, speakers: list[str | None]) -> None:
    with pytest.raises(InputError, match=f"`folds` is {wanted}, .* of {len(set(speakers))} speakers, which is too few"):
        deal_folds(rows_of(speakers), wanted)  # type: ignore[arg-type]


def test_leaving_out_speakers_takes_some_that_are_known() -> None:
    with pytest.raises(InputError, match="makes a fold of each speaker, and none is known; name them"):
        deal_folds(rows_of([None] * 4), "speakers")
    assert deal_folds(rows_of([None] * 4), 4).speakers == ((), (), (), ())


def test_without_folds_a_request_is_what_it_was() -> None:
    rows = [dataclasses.replace(u, labels=vad(1.0, 2.0, 3.0)) for u in rows_of(["anna", "ben"])]
    # Computed before there were folds.
    assert (
        request_sha256(rows, FeatureConfig(), "train")
        == "0cd07336c5f7f6d1f3032532e66fac4c0cd028b95e43299e7917d1ffc2e17a3a"
    )
    assert len({request_sha256(rows, FeatureConfig(), "train", folds) for folds in (None, 3, 4, "speakers")}) == 4


@pytest.fixture(scope="module")
def data_dir(corpus: list[Utterance], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fold for each of the corpus's five speakers, who were all over its splits."""
    data_dir = tmp_path_factory.mktemp("data") / "tones"
    prepare(corpus, data_dir, FeatureConfig(), "tones", "/tones", 1, Console(quiet=True), folds="speakers")
    return data_dir


def test_every_labelled_recording_is_in_one_fold(data_dir: Path, corpus: list[Utterance]) -> None:
    preparation = read_preparation(data_dir)
    assert preparation.counts == {"train": 46, "unlabeled": 17} and preparation.shared_speakers == ()
    assert preparation.folds is not None and preparation.folds.speakers == tuple((f"speaker{i}",) for i in range(5))
    labeled = sorted((u for u in corpus if u.split != "unlabeled" and u.id not in UNUSABLE), key=lambda u: u.id)
    assert preparation.folds.of_recordings == tuple(int((u.speaker or "")[-1]) + 1 for u in labeled)
    for fold in range(1, 6):
        read = {split: open_data(data_dir, fold).describe(split) for split in LABELED_SPLITS}
        assert set(read["test"].speakers) == {f"speaker{fold - 1}"}
        assert set(read["validation"].speakers) == {f"speaker{fold % 5}"}
        assert len(set(read["train"].speakers)) == 3
        assert sorted(id for of in read.values() for id in of.ids) == [u.id for u in labeled]
        assert split_counts(preparation, fold) == {**{name: len(of) for name, of in read.items()}, "unlabeled": 17}
    assert len(open_data(data_dir).describe("unlabeled")) == len(open_data(data_dir, 2).describe("unlabeled")) == 17


def test_whatever_reads_a_split_reads_the_folds(data_dir: Path, corpus: list[Utterance]) -> None:
    data, by_id = open_data(data_dir, 5), {u.id: u for u in corpus}
    arrays = data.read("validation")
    assert {by_id[id].speaker for id in arrays.ids} == {"speaker0"}
    expected = label_columns([by_id[id] for id in arrays.ids], arrays.labels.names).values
    np.testing.assert_array_equal(arrays.labels.values, expected.astype(np.float32))
    np.testing.assert_array_equal(data.describe("validation").labels.values, arrays.labels.values)
    assert data.describe("validation", [3, 1]).ids == [arrays.ids[3], arrays.ids[1]]
    source = ChunkSource(data, "validation")
    assert len(source) == len(arrays)
    np.testing.assert_array_equal(np.stack([source[i] for i in range(len(source))]), arrays.chunks)
    for feed in ("resident", "streamed"):
        split = load_split(data, "validation", Console(quiet=True), feed=feed)
        np.testing.assert_array_equal(split.labels.values, arrays.labels.values)
        with split.blocks(split.utterances) as blocks:
            (rows,) = blocks
        np.testing.assert_array_equal(np.asarray(rows["audio"]).reshape(arrays.chunks.shape), arrays.chunks)


def test_a_fold_is_described(data_dir: Path) -> None:
    assert describe_fold(read_preparation(data_dir), 5) == (
        "Fold 5 of 5: tests on 8 recordings of speaker4, validates on 10 recordings of speaker0, "
        "trains on 28 recordings"
    )


@pytest.mark.parametrize(
    ("fold", "message"),
    [
        (None, "was prepared in 5 folds; say by `fold` which to test on, from 1 to 5"),
        (6, "`fold` is 6; .* has folds 1 to 5"),
        (0, "`fold` is 0; .* has folds 1 to 5"),
    ],
)
def test_a_labelled_split_is_of_a_fold(data_dir: Path, fold: int | None, message: str) -> None:
    with pytest.raises(InputError, match=message):
        open_data(data_dir, fold).read("train")


def test_the_same_request_uses_the_data_again(
    data_dir: Path, corpus: list[Utterance], capsys: pytest.CaptureFixture[str]
) -> None:
    again = [corpus[::-1], data_dir, FeatureConfig(), "tones", "/tones", 1, Console()]
    assert prepare(*again, folds="speakers").folds == read_preparation(data_dir).folds  # type: ignore[arg-type]
    assert "holds these recordings already" in capsys.readouterr().out
    for folds in (None, 5):
        with pytest.raises(InputError, match="holds other prepared data"):
            prepare(*again, folds=folds)  # type: ignore[arg-type]


def test_earlier_data_have_no_folds(tmp_path: Path) -> None:
    write_records(tmp_path / "data", FEATURES, {"train": draw_recordings(3, seed=0)})
    path = tmp_path / "data" / FILE_NAME
    values = json.loads(path.read_text())
    assert values.pop("folds") is None and values.pop("shared_speakers") == []
    path.write_text(json.dumps(sealed({name: value for name, value in values.items() if name != "sha256"})))
    preparation = read_preparation(tmp_path / "data")
    assert (preparation.folds, preparation.shared_speakers) == (None, ())
    assert len(open_data(tmp_path / "data").read("train")) == 3


@pytest.mark.parametrize(
    "folds",
    [
        {"speakers": [["a"], ["b"], ["c"]], "of_recordings": [1, 2]},
        {"speakers": [["a"], ["b"], ["c"]], "of_recordings": [1, 2, 4]},
        {"speakers": [["a"], ["b"]], "of_recordings": [1, 2, 2]},
        {"speakers": 3, "of_recordings": [1, 2, 3]},
        [1, 2, 3],
    ],
)
def test_folds_at_odds_with_the_records(tmp_path: Path, folds: object) -> None:
    write_records(tmp_path / "data", FEATURES, {"train": draw_recordings(3, seed=0)})
    path = tmp_path / "data" / FILE_NAME
    values = {**json.loads(path.read_text()), "folds": folds}
    path.write_text(json.dumps(sealed({name: value for name, value in values.items() if name != "sha256"})))
    with pytest.raises(InputError, match="is damaged: "):
        read_preparation(tmp_path / "data")
