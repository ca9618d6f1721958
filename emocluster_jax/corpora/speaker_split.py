"""Assigns speakers to training, validation and test, or to folds, with no speaker in two of them."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar

from emocluster_jax.corpora.segments import segment_suffix
from emocluster_jax.corpora.utterance import Utterance
from emocluster_jax.errors import InputError

Part = TypeVar("Part", str, int)

FRACTIONS = {"train": 0.70, "validation": 0.15, "test": 0.15}
"""The share of the recordings for each split."""
_NAMES_SHOWN = 3


def split_by_speaker(speakers: Sequence[str], where: str) -> dict[str, str]:
    """The split of each speaker by `deal`, from the speaker of each recording; InputError, which says `where` they are
    from, for fewer than three speakers."""
    if (count := len(set(speakers))) < len(FRACTIONS):
        raise InputError(
            f"{where}: {count} speakers are too few to make a split of; "
            "add a column 'split' with train, validation or test"
        )
    return deal(speakers, FRACTIONS)


def deal(speakers: Sequence[str], fractions: Mapping[Part, float]) -> dict[str, Part]:
    """Assigns speakers to parts so that each part's number of recordings is close to its share; every part has one.

    Speakers with the most recordings come first, each goes to the part that lacks most; ties are broken by a hash of
    the name. The result depends only on names and counts, not on the order of the recordings, the machine or a seed.
    `speakers` has the speaker of each recording, at least as many different ones as there are parts.
    """
    counts = Counter(speakers)
    lacking = {part: fraction * len(speakers) for part, fraction in fractions.items()}
    dealt: dict[Part, list[str]] = {part: [] for part in fractions}
    for speaker in sorted(counts, key=lambda name: (-counts[name], stable_hash(name))):
        part = max(lacking, key=lambda name: lacking[name])
        dealt[part].append(speaker)
        lacking[part] -= counts[speaker]
    # With few or very unequal speakers a part may be empty: it gets the smallest speaker of the largest part.
    for empty in [part for part in fractions if not dealt[part]]:
        largest = max(dealt, key=lambda name: len(dealt[name]))
        dealt[empty].append(dealt[largest].pop())
    return {speaker: part for part, names in dealt.items() for speaker in names}


def speaker_of(utterance: Utterance) -> str:
    """The recording's speaker; a file of an unknown speaker counts as a speaker of its own."""
    # The blank tells it from real names.
    return utterance.speaker or f" {utterance.id.removesuffix(segment_suffix(utterance.start_s, utterance.end_s))}"


def shared_speakers(utterances: Iterable[Utterance]) -> tuple[str, ...]:
    """The known speakers with recordings in more than one of training, validation and test, sorted."""
    splits: defaultdict[str, set[str]] = defaultdict(set)
    for utterance in utterances:
        if utterance.speaker and utterance.split in FRACTIONS:
            splits[utterance.speaker].add(utterance.split)
    return tuple(sorted(speaker for speaker, found in splits.items() if len(found) > 1))


def shared_speakers_warning(speakers: Sequence[str]) -> str:
    return (
        f"{_are(speakers)} in more than one of train, validation and test ({_names(speakers)}): scores will be better "
        "than they are for voices that training never heard; give each speaker one split, or prepare with `folds`"
    )


def fold_warnings(utterances: Sequence[Utterance]) -> list[str]:
    """Warnings, before these rows become folds, about speakers that the folds cannot keep apart."""
    labeled = [utterance for utterance in utterances if utterance.split in FRACTIONS]
    pool = {utterance.speaker for utterance in utterances if utterance.speaker and utterance.split == "unlabeled"}
    found = []
    if unknown := sum(not utterance.speaker for utterance in labeled):
        found.append(
            f"the speakers of {unknown} of {len(labeled)} labelled recordings are unknown: each counts as a speaker of "
            "its own, so that a voice may be in several folds; name them in a column speaker"
        )
    if speakers := sorted(pool & {utterance.speaker for utterance in labeled}):
        found.append(
            f"{_are(speakers)} in the folds and in the unlabelled pool ({_names(speakers)}), of which every run hears "
            "all, without labels; train with `unlabeled_size=0` to do without"
        )
    return found


def _are(speakers: Sequence[str]) -> str:
    return "1 speaker is" if len(speakers) == 1 else f"{len(speakers)} speakers are"


def _names(speakers: Sequence[str]) -> str:
    return ", ".join(speakers[:_NAMES_SHOWN]) + (", ..." if len(speakers) > _NAMES_SHOWN else "")


def stable_hash(text: str) -> bytes:
    """Eight bytes that order texts randomly, but alike in every process (unlike Python's `hash`)."""
    return hashlib.blake2b(text.encode(), digest_size=8).digest()
