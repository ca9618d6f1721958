"""Which file a table means by a name: people's tables are not as exact as file systems are."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Collection
from pathlib import Path

from emocluster_jax.corpora.audio_files import AUDIO_SUFFIXES, find_audio_files


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
      folder: where the recordings lie; it is walked through once.
      suffixes: file name endings that count as recordings.

    Returns:
      For each name the paths below the folder that fit it, in the order of the alphabet; none where nothing fits.

    Raises:
      InputError: the folder or one of its subfolders cannot be read.
    """
    fits: dict[str, tuple[list[str], ...]] = {_key(name): ([], [], [], []) for name in names}
    for relative in find_audio_files(folder, suffixes):
        path = _key(relative)
        file = path.rpartition("/")[2]
        for rank, key in enumerate((path, path.rpartition(".")[0], file, file.rpartition(".")[0])):
            if key in fits:
                fits[key][rank].append(relative)
    return {name: next(filter(None, fits[_key(name)]), []) for name in names}


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
