"""Folders for libraries' caches if the home folder is missing or cannot be written, as in many containers.

Without them librosa cannot be imported, as it needs a folder for data and Numba one for compiled code, and Matplotlib
lists all fonts in each process.
"""

from __future__ import annotations

import contextlib
import os
import stat
import sys
import tempfile
from pathlib import Path

from emocluster_jax.errors import InputError, one_line


def place_caches() -> None:
    """Sets environment variables of JAX, Numba and Matplotlib if their usual folders cannot be written.

    The new folders are in a private one below the temporary folder, as a warning on stderr says. Variables that are set
    stay. Child processes inherit them and do not warn again. Call it before these libraries are imported.

    Raises:
      InputError: such a folder is needed, and there is no temporary folder either.
    """
    usual_folders = _usual_folders()
    blocked = {
        variable: folder
        for variable, (_, folders) in usual_folders.items()
        if not os.environ.get(variable)
        for folder in folders
        if folder is None or not _can_be_written(folder)
    }
    if not blocked:
        return
    usual = next(iter(blocked.values()))
    why = "there is no home folder" if usual is None else f"{usual} cannot be written"
    folder, taken = _private_folder(why)
    for variable in blocked:
        os.environ[variable] = str(folder / usual_folders[variable][0])
    instead = f" ({taken} is not private to this user)" if taken else ""
    warning = (
        f"{why}; caches for the next run are kept in {folder}{instead}; to keep them elsewhere, set "
        f"{', '.join(blocked)} in the environment"
    )
    if sys.stderr is not None:
        with contextlib.suppress(OSError):
            print("warning:", one_line(warning), file=sys.stderr, flush=True)


def own_cache(name: str) -> Path | None:
    """This project's folder of that name for what the next process need not compute anew; None without a home folder.

    It need not exist.
    """
    caches = _by_convention("XDG_CACHE_HOME", "~/.cache")
    return caches and caches / "emocluster_jax" / name


def compiled_programs() -> Path | None:
    """The folder for programs that JAX compiled; None without a home folder."""
    return own_cache("xla")


def _usual_folders() -> dict[str, tuple[str, list[Path | None]]]:
    """By variable, its folder in the private one, and those used if it is not set; None without a home folder."""
    caches, settings = _by_convention("XDG_CACHE_HOME", "~/.cache"), _by_convention("XDG_CONFIG_HOME", "~/.config")
    return {
        # A read-only one is kept: other libraries may have downloaded models to it.
        "XDG_CACHE_HOME": ("", [] if caches else [None]),
        "JAX_COMPILATION_CACHE_DIR": ("xla", [compiled_programs()]),
        "NUMBA_CACHE_DIR": ("numba", [caches and caches / "numba"]),
        "MPLCONFIGDIR": ("matplotlib", [folder and folder / "matplotlib" for folder in (caches, settings)]),
    }


def _by_convention(variable: str, default: str) -> Path | None:
    """A folder of the XDG Base Directory Specification, which ignores relative paths."""
    if Path(given := os.environ.get(variable, "")).is_absolute():
        return Path(given)
    if not Path(os.environ.get("HOME", "/")).is_absolute():
        return None
    try:
        return Path(default).expanduser()
    except RuntimeError:
        return None


def _can_be_written(folder: Path) -> bool:
    """Whether a folder exists or can be created, and files in it."""
    while not os.path.lexists(folder):
        folder = folder.parent
    return os.access(folder, os.W_OK | os.X_OK) and folder.is_dir()


def _private_folder(why: str) -> tuple[Path, Path | None]:
    """This user's private folder, always the same; if its name is taken, a new one, and the taken name."""
    try:
        folder = Path(tempfile.gettempdir(), f"emocluster_jax-{os.geteuid()}")
        with contextlib.suppress(FileExistsError):
            folder.mkdir(mode=0o700)
        # Anyone can create a folder or link of this name, with code that would run as this user.
        there = folder.lstat()
        if stat.S_ISDIR(there.st_mode) and there.st_uid == os.geteuid() and there.st_mode & 0o777 == 0o700:
            return folder, None
        return Path(tempfile.mkdtemp(prefix=f"{folder.name}-")), folder
    except OSError as error:
        raise InputError(
            f"{why}, and no temporary folder for caches ({error.strerror}); set TMPDIR to one that can be written"
        ) from None
