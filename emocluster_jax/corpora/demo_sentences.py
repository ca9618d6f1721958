"""English sentences with nothing in them to be excited about, for the demo corpus."""

from __future__ import annotations

import numpy as np

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


def neutral_sentence(rng: np.random.Generator) -> str:
    """One of some ten thousand sentences, 5 to 9 words long."""
    template = _TEMPLATES[rng.integers(len(_TEMPLATES))]
    return template.format(**{kind: words[rng.integers(len(words))] for kind, words in _WORDS.items()})
