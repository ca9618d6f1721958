"""The row that every corpus reader produces, and its fields from what people write in tables."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from emocluster_jax.corpora.audio_files import is_file
from emocluster_jax.corpora.table import is_missing, read_table
from emocluster_jax.errors import InputError

_SPLITS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("validation", "valid", "val", "dev", "devel", "development"), "validation"),
    **dict.fromkeys(("test", "testing"), "test"),
    **dict.fromkeys(("unlabeled", "unlabelled"), "unlabeled"),
}
_GENDERS = {"f": "female", "female": "female", "woman": "female", "m": "male", "male": "male", "man": "male"}
_UNKNOWN_SPEAKERS = frozenset({"unknown", "unk", "unknown speaker", "unknown_speaker"})


@dataclass(frozen=True)
class Utterance:
    """One recording with what is known of it: a file, or a segment of one."""

    id: str
    """Unique within the corpus: the path relative to its folder, with forward slashes, and for a segment `#start-end`
    (`segments.segment_suffix`)."""
    path: Path
    split: str
    """One of `config.SPLITS`."""
    speaker: str | None = None
    """The corpus's name for the speaker; None where unknown."""
    gender: str | None = None
    """Either "female" or "male"; None where unknown."""
    labels: Mapping[str, float] = field(default_factory=dict, hash=False)
    """Value by name, in the corpus's own units; NaN or absent where missing."""
    inputs: Mapping[str, Path] = field(default_factory=dict, hash=False)
    """The files of further inputs (`corpora.inputs`) by name; absent where missing."""
    start_s: float | None = None
    """Where the segment begins, in seconds from the file's beginning; None for 0."""
    end_s: float | None = None
    """Where it ends; None for the file's end."""

    @property
    def has_labels(self) -> bool:
        """Whether any label is a number."""
        return not all(map(math.isnan, self.labels.values()))


def parse_split(text: str, where: str) -> str:
    """One of `config.SPLITS` from any usual spelling; InputError, with `where` in front, for anything else."""
    try:
        return _SPLITS[text.strip().casefold()]
    except KeyError:
        raise InputError(f"{where}: unknown split {text!r}; known are {', '.join(_SPLITS)}") from None


def parse_speaker(text: str) -> str | None:
    """The speaker's name; None where it is missing, "Unknown" or the like."""
    name = text.strip()
    return None if is_missing(name) or name.casefold() in _UNKNOWN_SPEAKERS else name


def parse_gender(text: str) -> str | None:
    """The gender as "female" or "male"; None for anything else."""
    return _GENDERS.get(text.strip().casefold())


def read_genders(path: Path, speaker: str, gender: str) -> dict[str, str | None]:
    """Gender by speaker, from these two columns of a table; empty if there is no such file."""
    if not path.exists():
        return {}
    table = read_table(path)
    table.require(speaker, gender)
    return {row.text(speaker): parse_gender(row.text(gender)) for row in table}


def sorted_rows(utterances: Iterable[Utterance]) -> list[Utterance]:
    return sorted(utterances, key=lambda utterance: utterance.id)


def checked_rows(utterances: Sequence[Utterance], where: Path, remedy: str) -> list[Utterance]:
    """The rows by their ids; InputError if none of their files exists: then the folder is wrong, not single rows."""
    if not any(is_file(utterance.path) for utterance in utterances):
        first = f" (first: {utterances[0].path})" if utterances else ""
        raise InputError(f"{where}: none of the {len(utterances)} listed recordings exists{first}; {remedy}")
    return sorted_rows(utterances)
