"""EmoTale: enacted Danish and English speech, rated for arousal, valence and dominance by three annotators.

Hjuler, Skat-Rørdam, Clemmensen & Das, "EmoTale: An Enacted Speech-emotion Dataset in Danish", ASRU 2025;
https://github.com/snehadas/EmoTale. File names read LANGUAGE_SPEAKER_EMOTION_SENTENCE; ratings go from 1 to 5.
"""

from __future__ import annotations

import logging
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from emocluster_jax.corpora.audio_files import check_folder, check_inside
from emocluster_jax.corpora.labels import VAD
from emocluster_jax.corpora.recording_names import fitting_recordings
from emocluster_jax.corpora.table import Row, Table, read_table
from emocluster_jax.corpora.utterance import Utterance, checked_rows, parse_split, read_genders
from emocluster_jax.errors import InputError

HELD_OUT = {**dict.fromkeys(("008", "012", "019"), "validation"), **dict.fromkeys(("005", "011", "016", "018"), "test")}
"""Split by speaker if there is no `splits.csv`; all others train."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class EmotaleOptions:
    """What to make of EmoTale."""

    english: Literal["labeled", "unlabeled"] = "labeled"
    """With corpus emotale, without splits.csv: the English recordings train beside the Danish ones, or become the
    unlabelled pool."""


_DEFAULT = EmotaleOptions()


def read(source: Path, options: EmotaleOptions = _DEFAULT) -> list[Utterance]:
    """Reads EmoTale, as cloned or as a part of it with its own `splits.csv`: one row per recording, sorted by id.

    Labels are means over the annotators. A recording that is listed but missing keeps its row.

    Args:
      source: the folder of `annotations.csv`. The recordings may be in any subfolder, with any audio suffix.
        `speaker_info.csv` (genders), `splits.csv` (file, split) and `unlabeled.csv` (file) are optional. Annotated
        recordings that `splits.csv` does not name are left out.
      options: `english`, where there is no `splits.csv`: "labeled" gives annotated English recordings the split of the
        same speaker's Danish ones; "unlabeled" makes a pool of those of the training speakers and leaves out the others
        (as in this project's published results).

    Raises:
      InputError: a table is missing, unreadable or at odds with another, or no recording is found.
    """
    check_folder(source, "the folder of EmoTale's annotations.csv")
    annotations = _by_stem(read_table(source / "annotations.csv"))
    genders = read_genders(source / "speaker_info.csv", "speaker", "gender")
    genders = {speaker.zfill(3): gender for speaker, gender in genders.items()}  # spreadsheets turn 001 into 1
    splits = _splits(source, annotations, options.english)
    files = _files(source, [name for _, name in splits.values()])
    utterances = [
        Utterance(
            id=files[name],
            path=source / files[name],
            split=split,
            speaker=_speaker(stem),
            gender=genders.get(_speaker(stem) or ""),
            labels=_consensus(annotations[stem]) if split != "unlabeled" else {},
        )
        for stem, (split, name) in splits.items()
    ]
    return checked_rows(utterances, source, "unpack the corpus's audio below that folder")


def _splits(source: Path, annotations: dict[str, Row], english: str) -> dict[str, tuple[str, str]]:
    """Split and file name of every recording that is used, by the stem of its name."""
    splits: dict[str, tuple[str, str]] = {}
    if (source / "splits.csv").exists():
        table = read_table(source / "splits.csv")
        table.require("split")
        for stem, row in _by_stem(table).items():
            if stem not in annotations:
                raise InputError(f"{row.where}: {row.text('file')} is not in annotations.csv; remove the line")
            splits[stem] = (parse_split(row.text("split"), row.where), row.text("file"))
    else:
        for stem, row in annotations.items():
            split = HELD_OUT.get(_speaker(stem) or "", "train")
            if english == "unlabeled" and stem.startswith("en_"):
                if split != "train":
                    continue
                split = "unlabeled"
            splits[stem] = (split, row.text("file"))
    if (source / "unlabeled.csv").exists():
        for stem, row in _by_stem(read_table(source / "unlabeled.csv")).items():
            if stem in splits:
                raise InputError(f"{row.where}: {row.text('file')} has a split already ({splits[stem][0]})")
            splits[stem] = ("unlabeled", row.text("file"))
    if left_out := sum(stem not in splits for stem in annotations):
        _log.warning("%s: %d annotated recordings belong to no split and are left out", source, left_out)
    return splits


def _by_stem(table: Table) -> dict[str, Row]:
    """A table's rows by their file's name, in lower case and without the suffix, in which copies differ."""
    table.require("file")
    rows: dict[str, Row] = {}
    for row in table:
        stem = Path(row.text("file")).stem.casefold()
        if stem in rows:
            raise InputError(f"{row.where}: {row.text('file')} is listed twice (also {rows[stem].place})")
        rows[stem] = row
        check_inside(row.text("file"), row.where)
    return rows


def _files(source: Path, names: list[str]) -> dict[str, str]:
    """Each recording's path below the folder, by its name in the table; the name itself if it is missing.

    The table's folders and suffixes are ignored: copies of the corpus differ in them.
    """
    wanted = {name: Path(name) for name in names}
    fits = fitting_recordings({form for path in wanted.values() for form in (path.name, path.stem)}, source)
    files = {}
    for name, path in wanted.items():
        fitting = fits[path.name] or fits[path.stem]
        # The shallowest file, then the first by name, so that the choice is the same everywhere.
        files[name] = min(fitting, key=lambda file: (file.count("/"), file), default=path.as_posix())
    return files


def _consensus(row: Row) -> dict[str, float]:
    """The mean over the annotators of each attribute; NaN where nobody rated it."""
    consensus = {}
    for attribute in VAD:
        columns = [name for name in row.table.columns if re.fullmatch(rf"a\d+_{attribute[0]}", name, re.IGNORECASE)]
        if not columns:
            row.table.require(f"a1_{attribute[0].upper()}")
        ratings = [rating for rating in map(row.label, columns) if not math.isnan(rating)]
        consensus[attribute] = sum(ratings) / len(ratings) if ratings else math.nan
    return consensus


def _speaker(stem: str) -> str | None:
    fields = stem.split("_")
    return fields[1] if len(fields) == 4 else None
