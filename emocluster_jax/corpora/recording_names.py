"""Finds the files that inexact names in people's tables mean."""

from __future__ import annotations

import functools
import os
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable
from pathlib import Path

from emocluster_jax.corpora.audio_files import AUDIO_SUFFIXES, find_audio_files, is_file


def fitting_recordings(
    names: Collection[str], folder: Path, suffixes: frozenset[str] = AUDIO_SUFFIXES
) -> dict[str, list[str]]:
    """The recordings that each name may mean, as sorted paths below the folder.

    A name may be a recording's path below the folder, or that path without the suffix; a name without a folder may also
    be a recording's name in any subfolder, with or without the suffix. The first of these four that exists decides.
    Case and the Unicode form of accents (NFD, as macOS writes names, or NFC) do not matter.

    The folder is searched, once, only for names without a folder that are not directly in it; InputError if it, or one
    of its subfolders, cannot be read then.
    """
    listing = functools.cache(lambda place: _Files(_entries(folder, place), suffixes))
    fits = {name: _at_path(name, folder, listing) for name in names}
    elsewhere = [name for name in names if "/" not in name and not fits[name]]
    if elsewhere:
        keys = {_key(name) for name in elsewhere}
        files = _Files(find_audio_files(folder, suffixes), suffixes, keys)
        fits |= {name: files.by_name.get(_key(name)) or files.by_stem.get(_key(name), []) for name in elsewhere}
    return fits


class _Files:
    """Paths below a folder by the keys of their files' names, and of recordings' names without the suffix."""

    def __init__(self, paths: Iterable[str], suffixes: frozenset[str], keys: Collection[str] | None = None) -> None:
        """Of all paths, or of those that have one of these keys."""
        self.by_name: defaultdict[str, list[str]] = defaultdict(list)
        self.by_stem: defaultdict[str, list[str]] = defaultdict(list)
        for path in sorted(paths):
            name = _key(path.rpartition("/")[2])
            stem, suffix = os.path.splitext(name)  # noqa: PTH122
            if keys is None or name in keys:
                self.by_name[name].append(path)
            if suffix in suffixes and (keys is None or stem in keys):
                self.by_stem[stem].append(path)


def _at_path(name: str, folder: Path, listing: Callable[[str], _Files]) -> list[str]:
    """The files with this path below the folder, or else the recordings with this path before their suffix."""
    *parents, file = name.split("/")
    places = [""]
    for parent in parents:
        places = [f"{path}/" for place in places for path in listing(place).by_name.get(_key(parent), [])]
    whole = [path for place in places for path in listing(place).by_name.get(_key(file), [])]
    without_suffix = [path for place in places for path in listing(place).by_stem.get(_key(file), [])]
    there = (path for path in whole if is_file(folder / path))
    return list(there) or [path for path in without_suffix if is_file(folder / path)]


def _entries(folder: Path, place: str) -> list[str]:
    """The paths of what is directly in a place below the folder; none if it is not a folder that can be read."""
    try:
        return [f"{place}{name}" for name in os.listdir(folder / place)]  # noqa: PTH208
    except OSError:
        return []


def _key(name: str) -> str:
    """The same text for names that differ only in case and in the Unicode form of their characters."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFD", name).casefold())


def path_below(path: str, root: Path) -> str | None:
    """An absolute path without `..`, relative to a folder that one of its parents is or links to; None if none is."""
    for parent in Path(path).parents:
        if os.path.exists(parent) and os.path.samefile(parent, root):  # noqa: PTH110, PTH121 (any name may be asked for)
            return Path(path).relative_to(parent).as_posix()
    return None
