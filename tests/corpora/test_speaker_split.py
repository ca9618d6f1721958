"""The split by speaker: near 70/15/15, never a speaker in two splits, the same whatever the order."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emocluster_jax.corpora.speaker_split import (
    FRACTIONS,
    fold_warnings,
    shared_speakers,
    shared_speakers_warning,
    split_by_speaker,
)
from emocluster_jax.corpora.utterance import Utterance
from emocluster_jax.errors import InputError


def test_shares_of_many_unequal_speakers():
    speakers = [f"s{number}" for number in range(60) for _ in range(5 + number % 17)]
    splits = split_by_speaker(speakers, "test")
    shares = Counter(splits[speaker] for speaker in speakers)
    for split, fraction in FRACTIONS.items():
        # No speaker holds more than 2.7 % of the recordings, and each goes where most is lacking.
        assert shares[split] / len(speakers) == pytest.approx(fraction, abs=0.02)


@given(st.dictionaries(st.text(max_size=3), st.integers(1, 9), min_size=3, max_size=12), st.randoms())
def test_every_split_gets_a_speaker_and_the_order_does_not_matter(counts, random):
    speakers = [speaker for speaker, count in counts.items() for _ in range(count)]
    splits = split_by_speaker(speakers, "test")
    assert set(splits) == set(counts)
    assert set(splits.values()) == set(FRACTIONS)
    random.shuffle(speakers)
    assert split_by_speaker(speakers, "test") == splits


def test_the_hash_is_the_same_in_every_process():
    # Computed once; Python's own hash of texts differs from process to process.
    splits = split_by_speaker(list("abcdef"), "test")
    assert splits == {"a": "train", "b": "validation", "c": "train", "d": "test", "e": "train", "f": "train"}


def test_two_speakers_are_too_few():
    with pytest.raises(InputError, match=r"labels\.csv: 2 speakers are too few.*column 'split'"):
        split_by_speaker(["a", "b", "a"], "labels.csv")


def test_speakers_in_two_splits_are_found_and_named():
    rows = [
        Utterance(f"{number}.wav", Path("x"), split, speaker)
        for number, (split, speaker) in enumerate(
            [
                *(("train", name) for name in "abcdef"),
                *(("validation", name) for name in "ba"),
                *(("test", name) for name in "cdg"),
                *(("unlabeled", name) for name in "eg"),
                *(("train", None), ("test", None)),
            ]
        )
    ]
    shared = shared_speakers(rows)
    assert shared == ("a", "b", "c", "d")
    assert shared_speakers_warning(shared).startswith(
        "4 speakers are in more than one of train, validation and test (a, b, c, ...): "
    )
    assert shared_speakers_warning(shared[:1]).startswith(
        "1 speaker is in more than one of train, validation and test (a)"
    )
    assert shared_speakers(row for row in rows if row.split != "train") == ()
    unknown, pool = fold_warnings(rows)
    assert unknown.startswith("the speakers of 2 of 13 labelled recordings are unknown: ")
    assert pool.startswith("2 speakers are in the folds and in the unlabelled pool (e, g), ")
    assert fold_warnings([row for row in rows if row.split != "unlabeled" and row.speaker]) == []
