"""Finds recordings in folders, even of half a million files."""

from __future__ import annotations

import importlib.util
import logging
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

from emocluster_jax.config import Features, GivenFeatures
from emocluster_jax.errors import InputError, one_line

AV_SUFFIXES = frozenset(
    {".m4a", ".m4b", ".mp4", ".webm", ".weba", ".mka", ".amr", ".awb", ".3gp", ".wma", ".aac", ".ac3"}
    | {".wv", ".tta", ".ape", ".mpc", ".spx", ".dsf"}
)
"""File name endings, in lower case, of recordings that are decoded where PyAV (extra `av`) is installed."""
AUDIO_SUFFIXES = (AV_SUFFIXES if importlib.util.find_spec("av") else frozenset()) | frozenset(
    {".wav", ".wave", ".bwf", ".rf64", ".w64", ".aif", ".aiff", ".aifc", ".au", ".snd", ".caf", ".sph", ".nist"}
    | {".voc", ".flac", ".mp2", ".mp3", ".ogg", ".oga", ".opus"}
)
"""File name endings that count as recordings, in lower case: those of formats that can be decoded."""
FRAME_SUFFIXES = frozenset({".npy"})
"""The same where recordings are given as frames of features."""

_COMPANION_SUFFIXES = frozenset(
    # tables, texts, documents
    {".csv", ".tsv", ".xls", ".xlsx", ".ods", ".json", ".jsonl", ".xml", ".yaml", ".yml", ".toml", ".ini", ".cfg"}
    | {".txt", ".md", ".rst", ".log", ".html", ".htm", ".pdf", ".doc", ".docx", ".odt", ".rtf", ".tex", ".bib"}
    # transcripts and annotations
    | {".textgrid", ".eaf", ".lab", ".lbl", ".phn", ".wrd", ".ctm", ".stm", ".trs", ".trn", ".rttm", ".srt", ".vtt"}
    # pictures, programs, checksums
    | {".png", ".jpg", ".jpeg", ".gif", ".svg", ".py", ".ipynb", ".sh", ".m", ".r", ".md5", ".sha1", ".sha256"}
)
"""Endings of files that usually lie beside recordings; they are ignored without a warning."""
_COMPANIONS = frozenset({"readme", "license", "licence", "copying", "notice", "changelog", "md5sums", "sha256sums"})
"""The same for names without an ending."""
_SUFFIXES_SHOWN = 5

_log = logging.getLogger(__name__)


def recording_suffixes(features: Features) -> frozenset[str]:
    """The file name endings that count as recordings for these features."""
    return FRAME_SUFFIXES if isinstance(features, GivenFeatures) else AUDIO_SUFFIXES


def check_folder(folder: Path, expected: str) -> None:
    """Raises InputError if a folder that the user named, and that is `expected`, does not exist or is not a folder."""
    if not folder.exists():
        raise InputError(f"{folder} does not exist; give {expected}")
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder; give {expected}")


def is_file(path: Path) -> bool:
    """Whether it is a file; False for names that no file system allows, for which `Path.is_file` raises an error."""
    return os.path.isfile(path)  # noqa: PTH113


def is_inside(name: str) -> bool:
    """Whether a path relative to a folder stays below it, by its text alone: symbolic links are not followed."""
    normal = os.path.normpath(name)
    return normal != os.curdir and not Path(normal).is_absolute() and Path(normal).parts[0] != os.pardir


def check_inside(name: str, where: str) -> None:
    """Raises InputError if a path from a corpus's table, at `where`, leads out of the corpus's folder."""
    if not is_inside(name):
        raise InputError(f"{where}: {name!r} leads out of the corpus's folder; name a recording inside of it")


def find_audio_files(folder: Path, suffixes: frozenset[str] = AUDIO_SUFFIXES, remedy: str | None = None) -> list[str]:
    """The recordings in a folder and its subfolders: sorted relative paths with forward slashes.

    They are strings, since half a million `Path`s take seconds. Hidden files and folders are left out (macOS writes
    `._name.wav` beside `name.wav` on foreign disks); symbolic links are followed, each folder once.

    Args:
      suffixes: file name endings that count as recordings.
      remedy: what to do if a folder that should hold recordings has none. A warning then counts other files by suffix,
        except tables, texts and the like. None if the caller looks for single files.

    Raises:
      InputError: a folder cannot be read, or there is no recording and `remedy` is given.
    """
    left_out: Counter[str] = Counter()
    found = sorted(_walk(folder, suffixes, left_out))
    if remedy is None:
        return found
    if not found:
        there = f"{_counts(left_out)}, but " if left_out else ""
        raise InputError(
            f"{folder} holds {there}no recordings (files that end in {', '.join(sorted(suffixes))}); {remedy}"
        )
    if left_out:
        would_be_decoded = ".wav" in suffixes and left_out.keys() & AV_SUFFIXES
        advice = "; the extra av decodes more formats" if would_be_decoded else ""
        _log.warning(one_line(f"left out of {folder}, by their suffix: {_counts(left_out)}{advice}"))
    return found


def _walk(folder: Path, suffixes: frozenset[str], left_out: Counter[str]) -> Iterator[str]:
    """Relative paths of the recordings below a folder, unsorted; counts other files by their suffix."""
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
                        continue
                    suffix = os.path.splitext(entry.name)[1].lower()  # noqa: PTH122
                    if suffix in suffixes:
                        yield f"{below}{entry.name}"
                    elif suffix not in _COMPANION_SUFFIXES and entry.name.lower() not in _COMPANIONS:
                        left_out[suffix] += 1
        except OSError as error:
            raise InputError(f"{here} cannot be read: {error.strerror}; check that folder") from None


def _counts(left_out: Mapping[str, int]) -> str:
    """How many files there are of each suffix, most frequent first, e.g. `12 .m4a, 3 .webm, 1 without suffix`."""
    by_count = sorted(left_out.items(), key=lambda item: (-item[1], item[0]))
    shown = [f"{count} {suffix or 'without suffix'}" for suffix, count in by_count[:_SUFFIXES_SHOWN]]
    rest = sum(count for _, count in by_count[_SUFFIXES_SHOWN:])
    return ", ".join(shown + [f"{rest} others"] * bool(rest))
