"""Any recordings, described by a CSV file.

Columns: `file` (a path inside the recordings' folder, relative to it or absolute), any of `arousal`, `dominance`,
`valence` (numbers on any scale, empty where missing), and optionally `split` (train, validation, test, unlabeled),
`speaker` and `gender`, and `start` and `end` (of a segment of the file: `segments`).
"""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from emocluster_jax.config import ATTRIBUTES
from emocluster_jax.corpora.audio_files import AUDIO_SUFFIXES, is_file, is_inside
from emocluster_jax.corpora.gender import parse_gender
from emocluster_jax.corpora.segments import read_segment, segment_suffix
from emocluster_jax.corpora.speaker_split import speaker_of, split_by_speaker
from emocluster_jax.corpora.split_names import parse_split
from emocluster_jax.corpora.table import Row, Table, read_table
from emocluster_jax.corpora.unlabeled_pool import read_pool
from emocluster_jax.corpora.utterance import Utterance
from emocluster_jax.errors import InputError

_log = logging.getLogger(__name__)


def read(
    source: Path,
    unlabeled: Path | None = None,
    unlabeled_limit: int | None = None,
    suffixes: frozenset[str] = AUDIO_SUFFIXES,
    table: Path | None = None,
) -> list[Utterance]:
    """Reads a manifest.

    Without a column `split`, the split is made by speaker: about 70 % of the labelled recordings for training, 15 % for
    validation, 15 % for test, no speaker in two of them; rows without any label join the unlabelled pool. Without a
    column `speaker` every file then counts as a speaker of its own, which a warning says.

    Args:
      source: the folder of the recordings, or the CSV file, if it lies in that folder.
      unlabeled: a folder whose recordings, apart from those that the CSV file lists, join the unlabelled split.
      unlabeled_limit: take this many of that folder; None takes all.
      suffixes: file name endings that count as recordings there.
      table: the CSV file, where it is not the folder's `manifest.csv`.

    Returns:
      One row a recording, sorted by id: the path relative to the folder, and, of a segment, where it begins and ends.
      A recording that is listed but does not exist keeps its row.

    Raises:
      InputError: the table or the folder is missing, unreadable or wrong, names a recording outside of the folder, or
        no listed recording exists.
    """
    if table is not None and not source.is_dir():
        raise InputError(f"--source {source} is no folder; with --manifest give that of the recordings")
    root = source if source.is_dir() else source.parent
    path = table or (root / "manifest.csv" if source.is_dir() else source)
    if not os.path.exists(path):  # noqa: PTH110 (a name that no file system takes does not exist either)
        raise InputError(
            f"{path} does not exist; give by --source a folder with a manifest.csv, or name the table by --manifest"
        )
    rows = read_table(path)
    rows.require("file")
    attributes = [name for name in ATTRIBUTES if rows.has(name)]
    utterances = [_utterance(row, root) for row in rows]
    _check_unique(rows, utterances)
    if not rows.has("split"):
        if not attributes:
            raise InputError(
                f"{path} has neither labels ({', '.join(ATTRIBUTES)}) nor a column split; it has "
                f"{', '.join(rows.columns)}"
            )
        utterances = _split(path, utterances, rows.has("speaker"))
    elif not attributes and any(utterance.split != "unlabeled" for utterance in utterances):
        raise InputError(f"{path} has none of the columns {', '.join(ATTRIBUTES)}; it has {', '.join(rows.columns)}")
    if not any(is_file(utterance.path) for utterance in utterances):
        raise InputError(
            f"{path}: none of its {len(utterances)} recordings exists (first: {utterances[0].path}); "
            f"give paths inside {root}, or another --source"
        )
    if unlabeled is not None:
        utterances += read_pool(unlabeled, root, utterances, unlabeled_limit, suffixes=suffixes)
    return sorted(utterances, key=lambda utterance: utterance.id)


def _utterance(row: Row, root: Path) -> Utterance:
    """A line of the manifest; its split is "" where the table has no such column."""
    split = parse_split(row.text("split"), row.where) if row.table.has("split") else ""
    attributes = tuple(row.number(name) for name in ATTRIBUTES)
    file, path = _locate(row, root)
    start_s, end_s = read_segment(row)
    return Utterance(
        id=file + segment_suffix(start_s, end_s),
        path=path,
        split=split,
        speaker=row.text("speaker") or None,
        gender=parse_gender(row.text("gender")),
        attributes=(math.nan,) * len(ATTRIBUTES) if split == "unlabeled" else attributes,
        start_s=start_s,
        end_s=end_s,
    )


def _locate(row: Row, root: Path) -> tuple[str, Path]:
    """Id and path of a line's recording."""
    name = row.text("file")
    if not name:
        raise InputError(f"{row.where}: file is empty; name a recording or remove the line")
    if "\\" in name and not is_file(root / name):
        name = name.replace("\\", "/")  # written on Windows
    here = os.path.abspath(root)  # noqa: PTH100 (not `resolve`: links stay as they are)
    id = os.path.relpath(os.path.join(here, name), here)  # noqa: PTH118
    if not is_inside(id):
        raise InputError(
            f"{row.where}: {name!r} leads out of {root}; "
            "give the folder that all recordings lie in by --source, and the table by --manifest"
        )
    return Path(id).as_posix(), Path(os.path.normpath(root)) / id


def _check_unique(table: Table, utterances: Sequence[Utterance]) -> None:
    lines: dict[str, int] = {}
    for row, utterance in zip(table, utterances, strict=True):
        if utterance.id in lines:
            raise InputError(
                f"{row.where}: {utterance.id} is listed twice (also line {lines[utterance.id]}); remove one"
            )
        lines[utterance.id] = row.line


def _split(path: Path, utterances: list[Utterance], with_speakers: bool) -> list[Utterance]:
    """The rows with a split by speaker; those without labels become unlabelled."""
    labeled = [not all(map(math.isnan, utterance.attributes)) for utterance in utterances]
    speakers = [speaker_of(utterance) for utterance in utterances]
    if not with_speakers:
        _log.warning("%s has no column 'speaker': the split treats every recording as a speaker of its own", path)
    known = [speaker for speaker, has_label in zip(speakers, labeled, strict=True) if has_label]
    splits = split_by_speaker(known, str(path))
    return [
        replace(utterance, split=splits[speaker] if has_label else "unlabeled")
        for utterance, speaker, has_label in zip(utterances, speakers, labeled, strict=True)
    ]
