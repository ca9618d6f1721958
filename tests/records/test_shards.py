"""How a corpus is cut up, and what identifies a request."""

from __future__ import annotations

import dataclasses
import math
import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emocluster_jax.config import AudioConfig, FeatureConfig
from emocluster_jax.corpora.inputs import FurtherInput
from emocluster_jax.corpora.utterance import Utterance
from emocluster_jax.errors import InputError
from emocluster_jax.records import shards
from emocluster_jax.records.shards import check_utterances, plan_shards, request_sha256
from small_records import vad


def rows(count: int, split: str = "train") -> list[Utterance]:
    return [Utterance(id=f"{split}{i:06d}.wav", path=Path("absent"), split=split) for i in range(count)]


@given(st.integers(0, 500), st.integers(0, 500), st.integers(0, 9))
def test_every_row_is_in_one_shard_in_order(train: int, unlabeled: int, seed: int) -> None:
    utterances = rows(unlabeled, "unlabeled") + rows(train)
    shuffled = random.Random(seed).sample(utterances, len(utterances))
    planned = plan_shards(shuffled)
    assert [u for shard in planned for u in shard.utterances] == rows(train) + rows(unlabeled, "unlabeled")
    assert all(u.split == shard.split for shard in planned for u in shard.utterances)
    assert all(1 <= len(shard.utterances) <= 256 for shard in planned)
    assert len({shard.name for shard in planned}) == len(planned)


def test_a_large_split_has_a_limited_number_of_files(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [len(shard.utterances) for shard in plan_shards(rows(160))] == [16] * 10
    monkeypatch.setattr(shards, "_MOST_SHARDS", 4)
    assert [len(shard.utterances) for shard in plan_shards(rows(159))] == [40, 40, 40, 39]


@pytest.mark.parametrize(
    ("utterances", "message"),
    [
        ([], "no recordings"),
        (rows(2) + rows(1), "two recordings have the id 'train000000.wav'"),
        (rows(1, "eval"), "unknown split 'eval'"),
        (
            [Utterance("a.wav", Path("x"), "train", labels=vad(1.0, 2.0, 4e30))],
            r"a\.wav: valence is 4e\+30; expected a number from -1000000 to 1000000, or nothing where it is missing",
        ),
        ([Utterance("a.wav", Path("x"), "train", labels=vad(-math.inf, 2.0, 3.0))], r"a\.wav: arousal is -inf; "),
        ([Utterance("a.wav", Path("x"), "train", labels=vad(10**400, 2.0, 3.0))], "more than 30 digits; expected"),
        ([Utterance(id="b\udcff.wav", path=Path("x"), split="train")], "not UTF-8"),
    ],
)
def test_rows_that_cannot_be_prepared(utterances: list[Utterance], message: str) -> None:
    with pytest.raises(InputError, match=message):
        check_utterances(utterances)


def test_the_request_sees_what_matters(tmp_path: Path) -> None:
    audio = tmp_path / "a.wav"
    audio.write_bytes(b"1234")
    row = Utterance(id="a.wav", path=audio, split="train", labels=vad(1.0, 2.0, float("nan")))
    other = rows(1)[0]
    features = FeatureConfig()
    first = request_sha256([row, other], features, "train")
    assert request_sha256([other, row], features, "train") == first
    assert request_sha256([row, other], features, "train", audio=AudioConfig()) == first

    moved = tmp_path / "moved.wav"
    moved.write_bytes(b"4321")
    assert request_sha256([dataclasses.replace(row, path=moved), other], features, "train") == first

    changed = [
        request_sha256([row], features, "train"),
        request_sha256([dataclasses.replace(row, labels=vad(1.0, 2.5, float("nan"))), other], features, "train"),
        request_sha256([dataclasses.replace(row, speaker="A"), other], features, "train"),
        request_sha256([dataclasses.replace(row, split="test"), other], features, "train"),
        request_sha256([dataclasses.replace(row, start_s=1.5), other], features, "train"),
        request_sha256([dataclasses.replace(row, start_s=1.5, end_s=2.0), other], features, "train"),
        request_sha256([row, other], FeatureConfig(clip=4.0), "train"),
        request_sha256([row, other], features, "unlabeled"),
        *(
            request_sha256([row, other], features, "train", audio=settings)
            for settings in (AudioConfig(channel=1), AudioConfig(remove_dc=True), AudioConfig(strict=True))
        ),
    ]
    vector = tmp_path / "a.npy"
    for content in (b"1234", b"4321"):
        vector.write_bytes(content)
        with_text = dataclasses.replace(row, inputs={"text": vector})
        changed += [
            request_sha256([with_text, other], features, "train", inputs=(FurtherInput("text", n),)) for n in (1, 2)
        ]
    # Of frames, which may be large files, the end shows in their size.
    for size in (1 << 20, (1 << 20) + 4):
        vector.write_bytes(bytes(size))
        with_face = dataclasses.replace(row, inputs={"face": vector})
        changed.append(request_sha256([with_face, other], features, "train", inputs=(FurtherInput("face", 2, 25.0),)))
    audio.write_bytes(b"12345")
    changed.append(request_sha256([row, other], features, "train"))
    assert len({first, *changed}) == 1 + len(changed)


def test_requests_of_whole_files_are_what_they_were_before_there_were_segments() -> None:
    row = Utterance("a.wav", Path("absent"), "train", "s", "male", vad(1.0, 2.5, float("nan")))
    assert request_sha256([row], FeatureConfig(), "train").startswith("3eccb1fcf0e817a2")
