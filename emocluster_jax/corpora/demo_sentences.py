"""The demo corpus's sentences, which are neutral or tell a part of the hidden valence, and their vectors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

VECTOR_LENGTH = 128
"""Numbers in the vector of a sentence."""

_TEMPLATES = (
    "The {opinion}{adjective} {thing} is {place}{remark}.",
    "{person} puts the {opinion}{thing} {place}{remark}.",
    "On {day} they carry the {opinion}{adjective} {thing} away{remark}.",
    "There is a {opinion}{adjective} {thing} {place}{remark}.",
    "{person} will look for the {opinion}{thing} on {day}{remark}.",
    "At {hour} {person} moves the {opinion}{thing}{remark}.",
    "The {opinion}{thing} has been {place} since {day}{remark}.",
    "{person} keeps {number} {opinion}{adjective} boxes {place}{remark}.",
    "They bring {number} {opinion}letters to {person} at {hour}{remark}.",
    "It takes {number} {opinion}hours to paint the {thing}{remark}.",
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
# Each fits every template; opinions may follow an article "a".
_OPINIONS = {
    "good": ("lovely", "beautiful", "delightful", "wonderful", "splendid", "charming"),
    "bad": ("horrible", "nasty", "dreadful", "miserable", "shabby", "hideous"),
}
_REMARKS = {
    "good": ("which is a relief", "which is a pleasure", "to our delight", "to their great joy", "luckily for us"),
    "bad": ("which is a pity", "which is a shame", "to our regret", "to their great sorrow", "sadly for us"),
}
# How far what somebody means to say strays from what is felt, and how much it takes to say it (valence from -1 to 1).
_STRAYING, _RETICENCE = 0.5, 0.3


def neutral_sentence(rng: np.random.Generator) -> str:
    """One of some ten thousand sentences, 5 to 9 words long."""
    return _sentence(rng)


def telling_sentence(valence: float, sentences: np.random.Generator, opinions: np.random.Generator) -> str:
    """The sentence that `neutral_sentence(sentences)` is, with up to two expressions of a valence from -1 to 1.

    Each of the two, an adjective and a remark at the end, is good, bad or left out as an ordered probit model draws it:
    the more valence, the likelier a good one. So the words carry a part of the valence.
    """
    said = []
    for expressions in (_OPINIONS, _REMARKS):
        leaning = valence + opinions.normal(0, _STRAYING)
        words = expressions["good" if leaning > 0 else "bad"]
        word = words[opinions.integers(len(words))]
        said.append(word if abs(leaning) > _RETICENCE else "")
    opinion, remark = said
    return _sentence(sentences, opinion=opinion and f"{opinion} ", remark=remark and f", {remark}")


def _sentence(rng: np.random.Generator, opinion: str = "", remark: str = "") -> str:
    template = _TEMPLATES[rng.integers(len(_TEMPLATES))]
    words = {kind: words[rng.integers(len(words))] for kind, words in _WORDS.items()}
    return template.format(**words, opinion=opinion, remark=remark)


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
