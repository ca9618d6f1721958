"""The demo corpus's sentences, which are neutral or tell a part of the hidden valence, and their vectors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

VECTOR_LENGTH = 64
"""Numbers in the vector of a sentence."""

_TEMPLATES = (
    "The {adjective} {thing} is {place}.",
    "{person} puts the {thing} {place}.",
    "On {day} they carry the {adjective} {thing} away.",
    "There is a {adjective} {thing} {place}.",
    "{person} will look for the {thing} on {day}.",
    "At {hour} {person} moves the {thing}.",
    "The {thing} has been {place} since {day}.",
    "{person} keeps {number} {adjective} boxes {place}.",
    "They bring {number} letters to {person} at {hour}.",
    "It takes {number} hours to paint the {thing}.",
)

_WORDS = {
    "adjective": ("black", "small", "round", "wooden", "yellow", "narrow", "heavy", "folded", "plain", "square"),
    "thing": (
        "table", "paper", "window", "bottle", "ladder", "basket", "curtain", "notebook", "kettle", "bicycle", "carpet",
        "lantern", "drawer", "blanket", "calendar",
    ),
    "place": (
        "by the door", "under the stairs", "next to the window", "in the kitchen", "behind the house", "on the shelf",
        "near the station", "above the desk", "in the garden", "at the office",
    ),
    "person": ("Maria", "Peter", "Susan", "Robert", "Anna", "Daniel", "Helen", "Martin", "Laura", "Simon"),
    "day": ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"),
    "hour": ("seven", "eight", "nine", "ten", "noon", "half past four"),
    "number": ("two", "three", "four", "five", "six", "eleven"),
}  # fmt: skip
# Few, as in corpora of acted speech: if each recording had words of its own, a network would learn these by heart.
_SAID_BY_ALL = (
    "The {opinion}table is by the door{remark}.",
    "Maria keeps the {opinion}letters in the kitchen{remark}.",
    "They bring the {opinion}basket on Monday{remark}.",
    "There is a {opinion}window above the desk{remark}.",
)
_OPINIONS = {"good": ("lovely", "wonderful"), "bad": ("horrible", "dreadful")}
_REMARKS = {"good": ("which is a pleasure", "to our delight"), "bad": ("which is a pity", "to our regret")}
# How far what somebody means to say strays from what is felt, and how much it takes to say it (valence from -1 to 1).
_STRAYING, _RETICENCE = 0.5, 0.3


def neutral_sentence(rng: np.random.Generator) -> str:
    """One of some ten thousand sentences, 5 to 9 words long."""
    template = _TEMPLATES[rng.integers(len(_TEMPLATES))]
    return template.format(**{kind: words[rng.integers(len(words))] for kind, words in _WORDS.items()})


def telling_sentence(valence: float, rng: np.random.Generator) -> str:
    """One of four sentences, with up to two expressions of a valence from -1 to 1.

    Each of the two, an adjective and a remark at the end, is good, bad or left out as an ordered probit model draws it:
    the more valence, the likelier a good one. So the words carry a part of the valence.
    """
    template, said = _SAID_BY_ALL[rng.integers(len(_SAID_BY_ALL))], []
    for expressions in (_OPINIONS, _REMARKS):
        leaning = valence + rng.normal(0, _STRAYING)
        words = expressions["good" if leaning > 0 else "bad"]
        word = words[rng.integers(len(words))]
        said.append(word if abs(leaning) > _RETICENCE else "")
    opinion, remark = said
    return template.format(opinion=opinion and f"{opinion} ", remark=remark and f", {remark}")


def vectors(sentences: Sequence[str]) -> Float[np.ndarray, "sentences numbers"]:
    """Each sentence as a hashed bag of words: float32 counts, by signed hashes of the words.

    Of Weinberger, Dasgupta, Langford, Smola & Attenberg, "Feature hashing for large scale multitask learning", ICML
    2009; the hash is MurmurHash3, the same in every process.
    """
    from sklearn.feature_extraction.text import HashingVectorizer

    # The stubs take the type of `norm` from its default; it may be None.
    hashing = HashingVectorizer(n_features=VECTOR_LENGTH, norm=None)  # pyright: ignore[reportArgumentType]
    bags: Any = hashing.transform(sentences)
    return bags.toarray().astype(np.float32)
