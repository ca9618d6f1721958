"""A split into training, validation and test recordings with no speaker in two of them."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence

from emocluster_jax.errors import InputError

FRACTIONS = {"train": 0.70, "validation": 0.15, "test": 0.15}
"""Share of the recordings that each split should get."""


def split_by_speaker(speakers: Sequence[str], where: str) -> dict[str, str]:
    """Deals speakers out to splits so that the recordings come as near as possible to 70, 15 and 15 %.

    Speakers are dealt in the order of their number of recordings, the largest first, each to the split that lacks
    most; equals come in the order of a hash of their name. The result depends on nothing but names and counts: not on
    the order of the recordings, the machine or a random seed.

    Args:
      speakers: the speaker of each recording.
      where: what the recordings were read from, for the message.

    Returns:
      Split by speaker.

    Raises:
      InputError: fewer than three speakers.
    """
    counts = Counter(speakers)
    if len(counts) < len(FRACTIONS):
        raise InputError(
            f"{where}: {len(counts)} speakers are too few to make a split of; "
            "add a column 'split' that says train, validation or test"
        )
    lacking = {split: fraction * len(speakers) for split, fraction in FRACTIONS.items()}
    dealt: dict[str, list[str]] = {split: [] for split in FRACTIONS}
    for speaker in sorted(counts, key=lambda name: (-counts[name], stable_hash(name))):
        split = max(lacking, key=lambda name: lacking[name])
        dealt[split].append(speaker)
        lacking[split] -= counts[speaker]
    # With few or very unequal speakers a split may still be empty: it gets the smallest speaker of the largest split.
    for empty in [split for split in FRACTIONS if not dealt[split]]:
        largest = max(dealt, key=lambda name: len(dealt[name]))
        dealt[empty].append(dealt[largest].pop())
    return {speaker: split for split, names in dealt.items() for speaker in names}


def stable_hash(text: str) -> bytes:
    """Eight bytes that order texts as good as randomly, and the same in every process (Python's `hash` does not)."""
    return hashlib.blake2b(text.encode(), digest_size=8).digest()
