"""Where the recordings of a split lie in the records: the one place that knows how runs see folds."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int

from emocluster_jax.config import FOLD
from emocluster_jax.errors import InputError
from emocluster_jax.records.preparation import Preparation

LABELED_SPLITS = ("train", "validation", "test")
_NAMES_SHOWN = 3


@dataclass(frozen=True)
class SplitPlace:
    """The recordings of a split.

    Attributes:
      records: the split of the records that holds them.
      size: how many there are.
      positions: theirs in the records' split, ascending; None for all of it.
    """

    records: str
    size: int
    positions: Int[np.ndarray, " n"] | None = None

    def rows(self, indices: Int[np.ndarray, " n"]) -> Int[np.ndarray, " n"]:
        """From positions among these recordings to positions in the records' split."""
        return indices if self.positions is None else self.positions[indices]


def check_fold(preparation: Preparation, data_dir: Path, fold: int | None) -> None:
    """Raises InputError unless `fold` is one of the data's folds, or None where they have none."""
    if preparation.folds is None:
        if fold is not None:
            raise InputError(
                f"`fold={fold}` is given, but {data_dir} was prepared without folds; leave it out, or prepare with "
                "`folds`"
            )
        return
    count = preparation.folds.count
    if fold is None:
        raise InputError(f"{data_dir} was prepared in {count} folds; say by `fold` which to test on, from 1 to {count}")
    if not 1 <= fold <= count:
        raise InputError(f"`fold` is {fold}; {data_dir} has folds 1 to {count}")
    FOLD.check("`fold`", fold)


def split_counts(preparation: Preparation, fold: int | None) -> dict[str, int]:
    """Recordings by split, of the run that tests on `fold`, which `check_fold` has found right, if there are folds."""
    if preparation.folds is None or fold is None:
        return preparation.counts
    by_fold = Counter(preparation.folds.of_recordings)
    labeled = {
        split: sum(by_fold[number] for number in preparation.folds.of_split(split, fold)) for split in LABELED_SPLITS
    }
    return labeled | {split: count for split, count in preparation.counts.items() if split not in LABELED_SPLITS}


def locate(preparation: Preparation, data_dir: Path, split: str, fold: int | None) -> SplitPlace:
    """Where the recordings of a split lie.

    Args:
      preparation: what the data directory says of itself.
      data_dir: where it is, for messages.
      split: one of `config.SPLITS`.
      fold: the one that the run tests on, where the data have folds; the unlabelled pool is the same for all.

    Raises:
      InputError: there is no such split, or no such fold.
    """
    if preparation.folds is not None and split in LABELED_SPLITS:
        check_fold(preparation, data_dir, fold)
        assert fold is not None
        wanted = list(preparation.folds.of_split(split, fold))
        positions = np.flatnonzero(np.isin(preparation.folds.of_recordings, wanted))
        return SplitPlace("train", len(positions), positions)
    if split not in preparation.counts:
        raise InputError(f"{data_dir} has no split {split!r}; it has {', '.join(preparation.counts)}")
    return SplitPlace(split, preparation.counts[split])


def describe_fold(preparation: Preparation, fold: int) -> str:
    """In a line, what the run that tests on `fold` does with the data's folds."""
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
