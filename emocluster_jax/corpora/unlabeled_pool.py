"""A folder of recordings without labels beside a labelled corpus."""

from __future__ import annotations

import functools
import os
from collections.abc import Collection, Sequence
from pathlib import Path

from emocluster_jax.config import RECORDINGS
from emocluster_jax.corpora.audio_files import AUDIO_SUFFIXES, check_folder, find_audio_files
from emocluster_jax.corpora.speaker_split import stable_hash
from emocluster_jax.corpora.utterance import Utterance
from emocluster_jax.errors import InputError


def read_pool(
    folder: Path,
    root: Path,
    listed: Sequence[Utterance] = (),
    limit: int | None = None,
    skip: Collection[str] = (),
    suffixes: frozenset[str] = AUDIO_SUFFIXES,
) -> list[Utterance]:
    """The recordings of a folder and its subfolders as unlabelled rows, sorted by id.

    Args:
      root: the corpus's folder. Ids are relative to it if the pool lies inside; otherwise they are the pool folder's
        name and the path below it.
      listed: the corpus's rows. Their recordings are left out, so the pool may be the folder that they are in.
      limit: take this many, chosen by a hash of their ids: smaller samples are subsets of larger ones. None takes all.
      skip: names, in lower case, without folder and suffix, of recordings to leave out wherever they are.

    Raises:
      InputError: the folder is missing, unreadable or holds no recording, or the limit is out of range.
    """
    if limit is not None:
        limit = RECORDINGS.check("`unlabeled_limit`", limit)
    if limit == 0:
        return []
    check_folder(folder, "a folder of recordings without labels")
    files = find_audio_files(folder, suffixes, "give a folder that does")
    real_path = functools.cache(os.path.realpath)  # which looks up every part of a path: once per folder
    taken = {f"{real_path(parent)}/{name}" for parent, name in (os.path.split(row.path) for row in listed)}
    resolved_folder, resolved_root = os.path.realpath(folder), os.path.realpath(root)
    inside = Path(resolved_folder).is_relative_to(resolved_root)
    prefix = os.path.relpath(resolved_folder, resolved_root) if inside else Path(resolved_folder).name
    prefix = "" if prefix == "." else f"{Path(prefix).as_posix()}/"
    files = [file for file in files if f"{resolved_folder}/{file}" not in taken and lowercase_stem(file) not in skip]
    if limit is not None:
        files = sorted(sorted(files, key=lambda file: stable_hash(prefix + file))[:limit])
    pool = [Utterance(id=prefix + file, path=folder / file, split="unlabeled") for file in files]
    ids = {utterance.id for utterance in listed}
    clash = next((utterance for utterance in pool if utterance.id in ids), None)
    if clash:
        raise InputError(f"{clash.path}: a labelled recording has the same id {clash.id!r}; rename the pool's folder")
    return pool


def lowercase_stem(path: str) -> str:
    """A file's name in lower case, without folder and suffix."""
    return os.path.splitext(path.rpartition("/")[2])[0].casefold()  # noqa: PTH122
