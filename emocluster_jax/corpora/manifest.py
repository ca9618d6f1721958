"""Any recordings, described by a CSV file.

Columns: `file` (a path inside the recordings' folder, relative to it or absolute, or a name that one recording below it
has), labels (numbers on any scale, empty where missing), and optionally `split` (train, validation, test, unlabeled),
`speaker` and `gender`, `start` and `end` (of a segment of the file: `segments`), and `input:NAME` (the file of a
further input: `inputs`).
"""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from emocluster_jax.config import check_label_names
from emocluster_jax.corpora.audio_files import AUDIO_SUFFIXES, is_file, is_inside
from emocluster_jax.corpora.inputs import input_columns, input_files
from emocluster_jax.corpora.labels import VAD, unused_columns
from emocluster_jax.corpora.recording_names import fitting_recordings, path_below
from emocluster_jax.corpora.segments import read_segment, segment_suffix
from emocluster_jax.corpora.speaker_split import speaker_of, split_by_speaker
from emocluster_jax.corpora.table import Row, Table, read_table
from emocluster_jax.corpora.utterance import Utterance, checked_rows, parse_gender, parse_speaker, parse_split
from emocluster_jax.errors import InputError

COLUMNS = ("file", "start", "end", "split", "speaker", "gender")
"""All that are read beside labels and further inputs."""

_SHOWN = 5
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ManifestOptions:
    """What to make of recordings with a CSV file."""

    manifest: Path | None = None
    """With corpus manifest: the CSV file, if it is not the folder's manifest.csv. The recordings still lie in
    `source`."""
    labels: tuple[str, ...] | None = None
    """With corpus manifest: the columns that hold labels, e.g. `arousal liking`. [default: arousal, dominance and
    valence, as far as it has them]"""


_DEFAULT = ManifestOptions()


def read(
    source: Path, suffixes: frozenset[str] = AUDIO_SUFFIXES, options: ManifestOptions = _DEFAULT
) -> list[Utterance]:
    """Reads a manifest: one row per recording, sorted by id, also where it is listed but does not exist.

    Without a column `split`, the split is made by speaker: about 70 % of the labelled recordings for training, 15 % for
    validation, 15 % for test, no speaker in two of them; rows without any label join the unlabelled pool. Without a
    column `speaker` every file then counts as a speaker of its own, which a warning says.

    Args:
      source: the folder of the recordings, or the CSV file, if it lies in that folder.
      suffixes: file name endings that count as recordings there.
      options: the CSV file, where it is not the folder's `manifest.csv`, and its columns that hold labels.

    Raises:
      InputError: the table or the folder is missing, unreadable or wrong, names a recording outside of the folder, or
        by a name that several have, or no listed recording exists.
    """
    table, labels = options.manifest, options.labels
    if table is not None and not source.is_dir():
        raise InputError(f"`source={source}` is not a folder; with `manifest` give that of the recordings")
    root = source if source.is_dir() else source.parent
    path = table or (root / "manifest.csv" if source.is_dir() else source)
    if not os.path.exists(path):  # noqa: PTH110 (a name that no file system takes does not exist either)
        raise InputError(
            f"{path} does not exist; give by `source` a folder with a manifest.csv, or name the table by `manifest`"
        )
    rows = read_table(path)
    rows.require("file")
    if labels is None:
        labels = [name for name in VAD if rows.has(name)]
    else:
        check_label_names(labels, "`labels`")
        rows.require(*labels)
    inputs = input_columns(rows)
    used = (*COLUMNS, *(column.casefold() for column in inputs.values()))
    if warning := unused_columns(rows, used, labels):
        _log.warning("%s", warning)
    listed = listed_recordings(
        rows, root, suffixes, "give the folder that all recordings lie in by `source`, and the table by `manifest`"
    )
    utterances = [_utterance(row, recording, root, labels, inputs) for row, recording in zip(rows, listed, strict=True)]
    if not rows.has("split"):
        if not labels:
            raise InputError(
                f"{path} has neither labels ({', '.join(VAD)}) nor a column split; it has {', '.join(rows.columns)}; "
                "name the columns that hold labels by `labels`"
            )
        utterances = _split(path, utterances, rows.has("speaker"))
    elif not labels and any(utterance.split != "unlabeled" for utterance in utterances):
        raise InputError(
            f"{path} has none of the columns {', '.join(VAD)}; it has {', '.join(rows.columns)}; name those that hold "
            "labels by `labels`"
        )
    return checked_rows(utterances, path, f"give paths inside {root}, or another `source`")


def _utterance(row: Row, recording: Listed, root: Path, labels: Sequence[str], inputs: Mapping[str, str]) -> Utterance:
    """A row of the manifest; its split is "" where there is no such column."""
    split = parse_split(row.text("split"), row.where) if row.table.has("split") else ""
    values = {name: row.label(name) for name in labels}
    if row.ends_early and split not in ("", "unlabeled") and all(map(math.isnan, values.values())):
        raise InputError(f"{row.where}: ends before the labels of a {split} recording; add them, or cells without any")
    return Utterance(
        id=recording.id,
        path=Path(os.path.normpath(root)) / recording.file,
        split=split,
        speaker=parse_speaker(row.text("speaker")),
        gender=parse_gender(row.text("gender")),
        labels={} if split == "unlabeled" else values,
        inputs=input_files(row, inputs),
        start_s=recording.start_s,
        end_s=recording.end_s,
    )


class Listed(NamedTuple):
    """What a row of a table names: a file, or a segment of one."""

    file: str  # its path below the folder of the recordings, with forward slashes
    start_s: float | None  # where the segment begins, in seconds from the file's beginning; None of a whole file
    end_s: float | None  # where it ends; None for the file's end

    @property
    def id(self) -> str:
        return self.file + segment_suffix(self.start_s, self.end_s)


def listed_recordings(table: Table, root: Path, suffixes: frozenset[str], remedy: str) -> list[Listed]:
    """What each row of a table names by its columns `file`, `start` and `end`.

    Files lie below `root`, or else `remedy` says what to do; `suffixes` are those of recordings. Where no file has
    exactly a row's name, it is the one that the name fits (`recording_names`), if there is one; what another row names
    exactly does not fit.

    Raises:
      InputError: a row names no file, one outside of the folder, what several files fit, or what another row does; or
        it has no times of a segment.
    """
    rows = [Listed(_name_below(row, root, remedy), *read_segment(row)) for row in table]
    missing = {row.file for row in rows if not is_file(root / row.file)}
    fits = fitting_recordings(missing, root, suffixes) if missing else {}
    exact = {row for row in rows if row.file not in missing}
    listed = []
    places: dict[str, str] = {}
    for named, row in zip(rows, table, strict=True):
        fitting = [found for file in fits.get(named.file, ()) if (found := named._replace(file=file)) not in exact]
        if len(fitting) > 1:
            names = ", ".join(found.file for found in fitting[:_SHOWN]) + (", ..." if len(fitting) > _SHOWN else "")
            raise InputError(
                f"{row.where}: {row.text('file')!r} may be any of {names}; "
                "give its path below the folder of the recordings"
            )
        recording = fitting[0] if fitting else named
        if recording.id in places:
            raise InputError(f"{row.where}: {recording.id} is listed twice (also {places[recording.id]}); remove one")
        places[recording.id] = row.place
        listed.append(recording)
    return listed


def _name_below(row: Row, root: Path, remedy: str) -> str:
    """What a row calls its recording, as a path relative to the folder."""
    name = row.text("file")
    if not name:
        raise InputError(f"{row.where}: file is empty; name a recording or remove the line")
    if "\\" in name and not is_file(root / name):
        name = name.replace("\\", "/")  # written on Windows
    here = os.path.abspath(root)  # noqa: PTH100 (not `resolve`: links stay as they are)
    path = os.path.normpath(os.path.join(here, name))  # noqa: PTH118
    below = os.path.relpath(path, here)
    if not is_inside(below):
        below = path_below(path, root)
    if below is None:
        raise InputError(f"{row.where}: {name!r} leads out of {root}; {remedy}")
    return Path(below).as_posix()


def _split(path: Path, utterances: list[Utterance], with_speakers: bool) -> list[Utterance]:
    """The rows with a split by speaker; those without labels become unlabelled."""
    labeled = [utterance for utterance in utterances if utterance.has_labels]
    if not with_speakers:
        _log.warning("%s has no column 'speaker': the split treats every file as a speaker of its own", path)
    elif unknown := sum(not utterance.speaker for utterance in labeled):
        _log.warning(
            "%s: the speakers of %d recordings are unknown; the split treats each file as a speaker", path, unknown
        )
    splits = split_by_speaker([speaker_of(utterance) for utterance in labeled], str(path))
    return [
        replace(utterance, split=splits[speaker_of(utterance)] if utterance.has_labels else "unlabeled")
        for utterance in utterances
    ]
