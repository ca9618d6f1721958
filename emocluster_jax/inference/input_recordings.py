"""Which recordings a person means by a list of files, folders and tables, and what results call them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from emocluster_jax.corpora.audio_files import find_audio_files, is_file
from emocluster_jax.corpora.inputs import input_columns, input_files
from emocluster_jax.corpora.manifest import listed_recordings
from emocluster_jax.corpora.table import read_table
from emocluster_jax.errors import InputError
from emocluster_jax.inference.recordings import Recording

TABLE_SUFFIXES = frozenset({".csv", ".tsv"})
"""Endings of files that name recordings, in lower case."""


def find_recordings(inputs: Sequence[Path], suffixes: frozenset[str], source: Path | None = None) -> list[Recording]:
    """The recordings of files, folders and tables, in the given order, each once.

    A folder's recordings, by the endings `suffixes` of their names, are called by their path relative to it, with
    forward slashes; a file that is named itself is taken whatever its suffix, and called by its name. A table (.csv,
    .tsv) has the column `file`, a path in the folder `source` (by default the table's), relative to it or absolute, by
    which the recording is called; the columns `start` and `end` make it a segment (`corpora.segments`), and
    `input:NAME` name the files of its further inputs (`corpora.inputs`). Bytes in names that are not UTF-8 are written
    as escapes.

    Raises InputError if an input is missing, a folder has no recordings, a table is not as above or none of its
    recordings exists, two recordings would have the same name, or there is no table for `source`.
    """
    if source is not None and not any(map(_is_table, inputs)):
        raise InputError(f"`source={source}` is for the paths in a table, and none is given by `recordings`")
    if source is not None and not source.is_dir():
        raise InputError(f"`source={source}` is not a folder; give the one that the tables' paths are relative to")
    paths: dict[str, Path] = {}
    found: dict[tuple[str, float | None, float | None], Recording] = {}
    for given in inputs:
        for recording in _recordings_of(given, suffixes, source):
            name, path, start_s, end_s, _ = recording
            if paths.setdefault(name, path) != path and not _is_same_file(paths[name], path):
                raise InputError(
                    f"{paths[name]} and {path} would both be called {name}; give the folder that holds both, "
                    "or predict them one after the other"
                )
            found.setdefault((name, start_s, end_s), recording)
    return list(found.values())


def with_inputs(recordings: Sequence[Recording], folders: Mapping[str, Path]) -> list[Recording]:
    """The recordings with the files of further inputs that lie in a folder for each, by the input's name.

    A folder has a .npy file for each recording, by its name with this suffix instead of its own: `anna/001.npy` for
    `anna/001.wav`, and for all segments of it. What a recording has already stays.

    Raises InputError if a folder is none, or has a file for none of the recordings.
    """
    found = list(recordings)
    for name, folder in folders.items():
        if not folder.is_dir():
            raise InputError(
                f"`inputs`: {folder} is not a folder; give the one that holds a .npy file of the input {name} for each "
                "recording"
            )
        paths = [folder / f"{os.path.splitext(recording.name)[0]}.npy" for recording in found]  # noqa: PTH122
        there = [path.is_file() for path in paths]
        if not any(there):
            raise InputError(
                f"`inputs`: {folder} has a file for none of the {len(found)} recordings (first: {paths[0]}); give the "
                f"folder whose files of the input {name} are called as the recordings are, with .npy as their suffix"
            )
        found = [
            recording._replace(inputs={name: path, **recording.inputs}) if is_there else recording
            for recording, path, is_there in zip(found, paths, there, strict=True)
        ]
    return found


def _recordings_of(given: Path, suffixes: frozenset[str], source: Path | None) -> Iterator[Recording]:
    if given.is_dir():
        for name in find_audio_files(given, suffixes, "name the files themselves, or give another folder"):
            yield Recording(_printable(name), given / name)
    elif _is_table(given):
        yield from _read_recordings(given, source or given.parent, suffixes)
    elif given.exists():
        yield Recording(_printable(given.name), given)
    else:
        raise InputError(f"{given} does not exist; give a recording, a folder of recordings, or a table of them")


def _read_recordings(path: Path, source: Path, suffixes: frozenset[str]) -> list[Recording]:
    table = read_table(path)
    table.require("file")
    listed = listed_recordings(table, source, suffixes, "give the folder that all recordings lie in by `source`")
    inputs = input_columns(table)
    recordings = [
        Recording(_printable(file), source / file, start_s, end_s, input_files(row, inputs))
        for (file, start_s, end_s), row in zip(listed, table, strict=True)
    ]
    if not any(is_file(recording.path) for recording in recordings):
        raise InputError(
            f"{path}: none of its {len(recordings)} recordings exists (first: {recordings[0].path}); "
            "give the folder that its paths are relative to by `source`"
        )
    return recordings


def _is_table(path: Path) -> bool:
    return path.suffix.lower() in TABLE_SUFFIXES and not path.is_dir()


def _is_same_file(one: Path, other: Path) -> bool:
    return one.exists() and other.exists() and one.samefile(other)


def _printable(name: str) -> str:
    """A file's name with those bytes escaped that are not UTF-8."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
