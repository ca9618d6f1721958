"""Genders as corpora spell them, brought to the spelling of `Utterance.gender`."""

from __future__ import annotations

_SPELLINGS = {"f": "female", "female": "female", "woman": "female", "m": "male", "male": "male", "man": "male"}


def parse_gender(text: str) -> str | None:
    """The gender as "female" or "male", or None where the text says neither."""
    return _SPELLINGS.get(text.strip().casefold())
