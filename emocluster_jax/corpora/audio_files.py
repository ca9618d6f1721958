"""Finding recordings in folders, also in folders of half a million files."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from emocluster_jax.config import FeatureConfig, Features
from emocluster_jax.errors import InputError

AUDIO_SUFFIXES = frozenset({".wav", ".flac", ".mp3", ".ogg", ".oga", ".opus", ".aif", ".aiff", ".au"})
"""File name endings that count as recordings, in lower case."""
FRAME_SUFFIXES = frozenset({".npy"})
"""Those that do where recordings are given as frames of features."""


def recording_suffixes(features: Features) -> frozenset[str]:
    """The file name endings that count as recordings for these features."""
    return AUDIO_SUFFIXES if isinstance(features, FeatureConfig) else FRAME_SUFFIXES


def check_folder(folder: Path, expected: str) -> None:
    """Checks that a folder is there.

    Args:
      folder: the folder that the user named.
      expected: what should lie in it, for the message.

    Raises:
      InputError: it does not exist or is no folder.
    """
    if not folder.exists():
        raise InputError(f"{folder} does not exist; give {expected}")
    if not folder.is_dir():
        raise InputError(f"{folder} is no folder; give {expected}")


def is_file(path: Path) -> bool:
    """Whether a file lies there; False also for names that no file system takes, where `Path.is_file` raises errors."""
    return os.path.isfile(path)  # noqa: PTH113


def is_inside(name: str) -> bool:
    """Whether a path, seen from a folder, names something below it: it is not absolute, and does not climb out.

    What it says is judged, not where symbolic links on its way lead.
    """
    normal = os.path.normpath(name)
    return normal != os.curdir and not Path(normal).is_absolute() and Path(normal).parts[0] != os.pardir


def check_inside(name: str, where: str) -> None:
    """Checks that a path which a corpus's table gives stays in the corpus's folder.

    Args:
      name: the path, as the table spells it.
      where: file and line, for the message.

    Raises:
      InputError: it does not name anything below that folder.
    """
    if not is_inside(name):
        raise InputError(f"{where}: {name!r} leads out of the corpus's folder; name a recording inside of it")


def find_audio_files(folder: Path, suffixes: frozenset[str] = AUDIO_SUFFIXES) -> list[str]:
    """The recordings in a folder and its subfolders, by their suffix.

    Hidden files and folders are left out (macOS writes `._name.wav` beside `name.wav` on foreign disks); symbolic
    links are followed, each folder once.

    Args:
      folder: where to look.
      suffixes: file name endings that count as recordings.

    Returns:
      Paths relative to the folder, with forward slashes, sorted. Strings, since half a million `Path`s take seconds.

    Raises:
      InputError: the folder or one of its subfolders cannot be read.
    """
    return sorted(_walk(folder, suffixes))


def _walk(folder: Path, suffixes: frozenset[str]) -> Iterator[str]:
    """Relative paths of the recordings below a folder, in no particular order."""
    pending = [""]
    seen: set[tuple[int, int]] = set()
    while pending:
        below = pending.pop()
        here = os.path.join(folder, below)  # noqa: PTH118
        try:
            status = os.stat(here)  # noqa: PTH116
            if (status.st_dev, status.st_ino) in seen:
                continue
            seen.add((status.st_dev, status.st_ino))
            with os.scandir(here) as entries:
                for entry in entries:
                    if entry.name.startswith("."):
                        continue
                    if entry.is_dir():
                        pending.append(f"{below}{entry.name}/")
                    elif os.path.splitext(entry.name)[1].lower() in suffixes:  # noqa: PTH122
                        yield f"{below}{entry.name}"
        except OSError as error:
            raise InputError(f"{here} cannot be read: {error.strerror}; check that folder") from None
