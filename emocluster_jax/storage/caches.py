"""Where libraries keep what they compile for the next process, where the home folder cannot take it.

In containers a user often has no home folder, or one that cannot be written. librosa then cannot be imported, since it
wants to know the folder for its data, and Numba one for what it compiles; Matplotlib lists the fonts in each process.
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
    """Names, by environment variables, folders for JAX, Numba and Matplotlib, where theirs cannot be written.

    They are in a folder of this user alone below the temporary one, and a warning on stderr says so. What the
    environment says already stays. Processes that this one starts inherit it all, and do not warn again. Call it before
    these libraries are imported.

    Raises:
      InputError: such a folder is needed, and there is no temporary folder either.
    """
    blocked = {
        variable: folder
        for variable, folders in _usual_folders().items()
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
        os.environ[variable] = str(folder / _SUBFOLDERS[variable])
    instead = f" ({taken} is not this user's alone)" if taken else ""
    warning = (
        f"{why}; caches for the next run are kept in {folder}{instead}; to keep them elsewhere, set "
        f"{', '.join(blocked)} in the environment"
    )
    if sys.stderr is not None:
        with contextlib.suppress(OSError):
            print("warning:", one_line(warning), file=sys.stderr, flush=True)


def compiled_programs() -> Path | None:
    """The folder where the commands keep programs that JAX compiled; None where there is no home folder."""
    caches = _by_convention("XDG_CACHE_HOME", "~/.cache")
    return caches and caches / "emocluster_jax" / "xla"


_SUBFOLDERS = {
    "XDG_CACHE_HOME": "",
    "JAX_COMPILATION_CACHE_DIR": "xla",
    "NUMBA_CACHE_DIR": "numba",
    "MPLCONFIGDIR": "matplotlib",
}
"""What is in the private folder, by the variable that names it."""


def _usual_folders() -> dict[str, list[Path | None]]:
    """What is written to where the variable is not set; None where there is no home folder."""
    caches, settings = _by_convention("XDG_CACHE_HOME", "~/.cache"), _by_convention("XDG_CONFIG_HOME", "~/.config")
    return {
        # Not where there is one that cannot be written: other libraries may have downloaded models to it.
        "XDG_CACHE_HOME": [] if caches else [None],
        "JAX_COMPILATION_CACHE_DIR": [compiled_programs()],
        "NUMBA_CACHE_DIR": [caches and caches / "numba"],
        "MPLCONFIGDIR": [folder and folder / "matplotlib" for folder in (caches, settings)],
    }


def _by_convention(variable: str, default: str) -> Path | None:
    """A folder of the XDG Base Directory Specification, by which relative paths do not count."""
    if Path(given := os.environ.get(variable, "")).is_absolute():
        return Path(given)
    if not Path(os.environ.get("HOME", "/")).is_absolute():
        return None
    try:
        return Path(default).expanduser()
    except RuntimeError:
        return None


def _can_be_written(folder: Path) -> bool:
    """Whether a folder is there, or can be made, and files in it."""
    while not os.path.lexists(folder):
        folder = folder.parent
    return os.access(folder, os.W_OK | os.X_OK) and folder.is_dir()


def _private_folder(why: str) -> tuple[Path, Path | None]:
    """A folder of this user alone, the same each time; or, if what has its name is not, a new one, and that name."""
    try:
        folder = Path(tempfile.gettempdir(), f"emocluster_jax-{os.geteuid()}")
        with contextlib.suppress(FileExistsError):
            folder.mkdir(mode=0o700)
        # Anyone can make a folder or a link of this name, and put there what would be run in this user's name.
        there = folder.lstat()
        if stat.S_ISDIR(there.st_mode) and there.st_uid == os.geteuid() and there.st_mode & 0o777 == 0o700:
            return folder, None
        return Path(tempfile.mkdtemp(prefix=f"{folder.name}-")), folder
    except OSError as error:
        raise InputError(
            f"{why}, and no temporary folder for caches ({error.strerror}); set TMPDIR to one that can be written"
        ) from None
