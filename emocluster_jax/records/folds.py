"""Folds by speaker: which of them each labelled recording is in, and what a run makes of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from emocluster_jax.config import FOLDS
from emocluster_jax.corpora.speaker_split import FRACTIONS, deal, speaker_of
from emocluster_jax.corpora.utterance import Utterance
from emocluster_jax.errors import InputError

if TYPE_CHECKING:
    from emocluster_jax.records.preparation import Preparation

FoldsRequest = int | Literal["speakers"]
"""A number of folds, or a fold for each speaker."""

FEWEST = FOLDS.lowest
"""One to test on, one to validate on, and one to train on."""
LABELED_SPLITS = ("train", "validation", "test")
_NAMES_SHOWN = 3


@dataclass(frozen=True)
class Folds:
    """The labelled recordings assigned to folds, numbered from 1; no speaker is in two of them."""

    speakers: tuple[tuple[str, ...], ...]  # by fold, the known speakers in it, sorted
    of_recordings: tuple[int, ...]  # the fold of each recording of the records' split `train`, in its order

    @property
    def count(self) -> int:
        return len(self.speakers)

    def of_split(self, split: str, fold: int) -> set[int]:
        """The folds that make up a split of the run that tests on `fold`: the next one validates, the rest train."""
        held_out = {"test": fold, "validation": fold % self.count + 1}
        train = set(range(1, self.count + 1)) - set(held_out.values())
        return {held_out[split]} if split in held_out else train


def in_one_split(utterances: Sequence[Utterance]) -> list[Utterance]:
    """The rows with all labelled recordings in the split `train`, from which folds take them."""
    return [replace(u, split="train") if u.split in FRACTIONS else u for u in utterances]


def deal_folds(utterances: Sequence[Utterance], wanted: FoldsRequest) -> Folds:
    """Deals recordings out to folds by speaker, a file of an unknown speaker being a speaker of its own.

    Args:
      utterances: the labelled recordings, in the order of the records.
      wanted: so many folds of about equally many recordings (`corpora.speaker_split.deal`), or a fold for each speaker,
        in the order of their names.

    Raises:
      InputError: there are fewer speakers than folds, or each is to get one, and none is known.
    """
    if wanted != "speakers":
        wanted = FOLDS.check("`folds`", wanted)
    elif utterances and not any(utterance.speaker for utterance in utterances):
        raise InputError(
            "`folds=speakers` makes a fold of each speaker, and none is known; name them in a column speaker, or give "
            "a number of folds"
        )
    speakers = [speaker_of(utterance) for utterance in utterances]
    different = sorted(set(speakers))
    if len(different) < (FEWEST if wanted == "speakers" else wanted):
        raise InputError(
            f"`folds` is {wanted}, and the labelled recordings that can be used are of {len(different)} speakers, "
            f"which is too few; folds are by speaker, and at least {FEWEST}"
        )
    if wanted == "speakers":
        fold_of = {speaker: number for number, speaker in enumerate(different, start=1)}
    else:
        fold_of = deal(speakers, dict.fromkeys(range(1, wanted + 1), 1 / wanted))
    known: list[set[str]] = [set() for _ in range(max(fold_of.values()))]
    for utterance, speaker in zip(utterances, speakers, strict=True):
        if utterance.speaker:
            known[fold_of[speaker] - 1].add(utterance.speaker)
    return Folds(tuple(tuple(sorted(names)) for names in known), tuple(fold_of[speaker] for speaker in speakers))


def split_counts(preparation: Preparation, fold: int | None) -> dict[str, int]:
    """Recordings per split of the run that tests on `fold`; of data with folds, None counts what the records hold."""
    if preparation.folds is None or fold is None:
        return preparation.counts
    by_fold = Counter(preparation.folds.of_recordings)
    labeled = {
        split: sum(by_fold[number] for number in preparation.folds.of_split(split, fold)) for split in LABELED_SPLITS
    }
    return labeled | {split: count for split, count in preparation.counts.items() if split not in LABELED_SPLITS}


def describe_fold(preparation: Preparation, fold: int) -> str:
    """One line about what the run that tests on `fold` does with the data's folds."""
    folds, counts = preparation.folds, split_counts(preparation, fold)
    assert folds is not None
    tested, validated = (
        f"{counts[split]} recordings{_of(folds.speakers[next(iter(folds.of_split(split, fold))) - 1])}"
        for split in ("test", "validation")
    )
    return (
        f"Fold {fold} of {folds.count}: tests on {tested}, validates on {validated}, trains on {counts['train']} "
        "recordings"
    )


def _of(speakers: tuple[str, ...]) -> str:
    if not speakers:
        return ""
    more = f" and {len(speakers) - _NAMES_SHOWN} more" if len(speakers) > _NAMES_SHOWN else ""
    return f" of {', '.join(speakers[:_NAMES_SHOWN])}{more}"
