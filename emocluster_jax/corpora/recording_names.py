"""Which file a table means by a name: people's tables are not as exact as file systems are."""

from __future__ import annotations

import functools
import os
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

from emocluster_jax.corpora.audio_files import AUDIO_SUFFIXES, find_audio_files, is_file


def fitting_recordings(
    names: Collection[str], folder: Path, suffixes: frozenset[str] = AUDIO_SUFFIXES
) -> dict[str, list[str]]:
    """The recordings that names may mean.

    A name fits a recording if it is its path below the folder, or that path without the suffix; a name without a folder
    also fits every recording of that name, or of that name without its suffix. The first of these four that there is
    decides. Case does not matter, nor whether accents are characters of their own (NFD, as macOS writes names) or not
    (NFC).

    Args:
      names: paths below the folder, or names without a folder.
      folder: where the recordings lie. It is walked through, once, only for names without a folder that do not lie in
        it directly.
      suffixes: file name endings that count as recordings.

    Returns:
      For each name the paths below the folder that fit it, in the order of the alphabet; none where nothing fits.

    Raises:
      InputError: the folder or one of its subfolders cannot be read, and is walked through.
    """
    listing = functools.cache(lambda place: _Files.of(_entries(folder, place), suffixes))
    fits = {name: _at_path(name, folder, listing) for name in names}
    elsewhere = [name for name in names if "/" not in name and not fits[name]]
    if elsewhere:
        keys = {_key(name) for name in elsewhere}
        files = _Files.of(find_audio_files(folder, suffixes), suffixes, keys)
        fits |= {name: files.by_name.get(_key(name)) or files.by_stem.get(_key(name), []) for name in elsewhere}
    return fits


@dataclass(frozen=True)
class _Files:
    """Paths below a folder by the keys of their files' names, and of recordings' names without suffix."""

    by_name: dict[str, list[str]]
    by_stem: dict[str, list[str]]

    @staticmethod
    def of(paths: Iterable[str], suffixes: frozenset[str], keys: Collection[str] | None = None) -> _Files:
        """All paths, or those that have one of these keys."""
        files = _Files(defaultdict(list), defaultdict(list))
        for path in sorted(paths):
            name = _key(path.rpartition("/")[2])
            stem, suffix = os.path.splitext(name)  # noqa: PTH122
            if keys is None or name in keys:
                files.by_name[name].append(path)
            if suffix in suffixes and (keys is None or stem in keys):
                files.by_stem[stem].append(path)
        return files


def _at_path(name: str, folder: Path, listing: Callable[[str], _Files]) -> list[str]:
    """The files whose path below the folder a name is, or else the recordings whose path without the suffix it is."""
    *parents, file = name.split("/")
    places = [""]
    for parent in parents:
        places = [f"{path}/" for place in places for path in listing(place).by_name.get(_key(parent), [])]
    whole = [path for place in places for path in listing(place).by_name.get(_key(file), [])]
    without_suffix = [path for place in places for path in listing(place).by_stem.get(_key(file), [])]
    there = (path for path in whole if is_file(folder / path))
    return list(there) or [path for path in without_suffix if is_file(folder / path)]


def _entries(folder: Path, place: str) -> list[str]:
    """The paths of what lies directly in a place below the folder; none where that is not a folder to be read."""
    try:
        return [f"{place}{name}" for name in os.listdir(folder / place)]  # noqa: PTH208
    except OSError:
        return []


def _key(name: str) -> str:
    """What names that differ in case and in the normal form of their characters have in common."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFD", name).casefold())


def path_below(path: str, root: Path) -> str | None:
    """A path as seen from a folder that one of its parents is, under whatever name symbolic links give it.

    Args:
      path: an absolute path without `..`.
      root: the folder.

    Returns:
      The path relative to that folder, or None where no parent of it is the folder.
    """
    for parent in Path(path).parents:
        if os.path.exists(parent) and os.path.samefile(parent, root):  # noqa: PTH110, PTH121 (any name may be asked for)
            return Path(path).relative_to(parent).as_posix()
    return None
