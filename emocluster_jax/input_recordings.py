"""Which recordings a person means by a list of files and folders, and what tables call them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from emocluster_jax.batch_inference import Recording
from emocluster_jax.corpora.audio_files import find_audio_files
from emocluster_jax.errors import InputError


def find_recordings(inputs: Sequence[Path], suffixes: frozenset[str]) -> list[Recording]:
    """The recordings of files and folders, in the given order, each once.

    A folder's recordings, found by these endings of their names, are called by their path relative to it, with forward
    slashes; a file that is named itself is taken whatever its suffix, and called by its name. Bytes in names that are
    no UTF-8 are written as escapes.

    Raises:
      InputError: an input is missing, a folder has no recordings, or two recordings would have the same name.
    """
    paths: dict[str, Path] = {}
    for given in inputs:
        if given.is_dir():
            names = find_audio_files(given, suffixes, "name the files themselves, or give another folder")
            found = [(name, given / name) for name in names]
        elif given.exists():
            found = [(given.name, given)]
        else:
            raise InputError(f"{given} does not exist; give a recording or a folder of recordings")
        for name, path in found:
            name = name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
            if name in paths and not paths[name].samefile(path):
                raise InputError(
                    f"{paths[name]} and {path} would both be called {name}; give the folder that holds both, "
                    "or predict them one after the other"
                )
            paths.setdefault(name, path)
    return [Recording(name, path) for name, path in paths.items()]
