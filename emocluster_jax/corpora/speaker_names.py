"""Speakers as tables name them."""

from __future__ import annotations

from emocluster_jax.corpora.table import is_missing

_UNKNOWN = frozenset({"unknown", "unk", "unknown speaker", "unknown_speaker"})


def parse_speaker(text: str) -> str | None:
    """The speaker's name, or None where the text says that nobody knows: it is missing, "Unknown" or the like."""
    name = text.strip()
    return None if is_missing(name) or name.casefold() in _UNKNOWN else name
