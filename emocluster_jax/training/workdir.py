"""A work directory belongs to one run: its settings, and the lock while it trains."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import filelock
import numpy as np
from jaxtyping import Int

from emocluster_jax import __version__
from emocluster_jax.atomic_files import remove_leftovers, write_json
from emocluster_jax.checksums import check_seal, sealed
from emocluster_jax.config import TrainConfig, from_dict, to_dict
from emocluster_jax.errors import InputError
from emocluster_jax.evaluation.score_file import TEST_SCORES
from emocluster_jax.training.checkpoints import completed_epochs, has_checkpoint

FORMAT_VERSION = 1
RUN_FILE = "run.json"
CLUSTERS_FILE = "clusters.json"
"""Written last: where it is, the run in `RUN_FILE` has ended and all else is there."""
# What may change between the parts of a run without changing the epochs that are done.
_CHANGEABLE = ("epochs", "patience", "on_nan")
_LIBRARIES = ("jax", "jaxlib", "flax", "optax", "numpy", "scikit-learn")
"""Whose versions are saved with a run."""


@contextmanager
def locked(workdir: Path) -> Iterator[None]:
    """Keeps other processes from training in the same work directory.

    What a run that was killed left there half-written is removed.

    Raises:
      InputError: one is training there, or nothing can be written there.
    """
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(workdir / ".lock", blocking=False)
        lock.acquire()
    except filelock.Timeout:
        raise InputError(f"another process is training in {workdir}; wait for it or choose another --workdir") from None
    except OSError as error:
        raise InputError(f"cannot write to {workdir} ({error.strerror}); choose another --workdir") from None
    with lock:
        try:
            for folder in workdir.iterdir():
                remove_leftovers(folder)
            for names in (
                "run.*",
                "metrics.*",
                "test*",
                "clusters.*",
            ):  # there others may be writing files of their own
                remove_leftovers(workdir, names)
            yield
        finally:
            lock.release()


def claim(workdir: Path, config: TrainConfig, data: str, *, resume: bool, initial_sha256: str | None = None) -> None:
    """Makes the work directory this run's, or checks that the run to resume is the one that is in it.

    A run without a checkpoint has nothing to lose: the new one takes its place.

    Args:
      workdir: exists; may hold a run.
      config: the run's settings.
      data: what tells the prepared data from other data (`Preparation.fingerprint`).
      resume: whether to go on with the run that is there.
      initial_sha256: hash of the model that a run begins with by `config.init_from`; one that goes on keeps its own.

    Raises:
      InputError: there is a run and `resume` is false; or the run there has other settings or data, or more epochs.
    """
    path = workdir / RUN_FILE
    epochs = completed_epochs(workdir)
    if not path.exists() or not has_checkpoint(workdir):
        _write_run(path, config, data, initial_sha256)
        return
    if not resume:
        raise InputError(f"{workdir} holds a run already; add --resume to go on with it, or choose another --workdir")
    stored, stored_data = read_run(workdir)
    if stored_data != data:
        raise InputError(f"the run in {workdir} was begun on other data; give its --data-dir, or another --workdir")
    unchanged = dataclasses.replace(config, **{name: getattr(stored, name) for name in _CHANGEABLE})
    differences = _differences(to_dict(stored), to_dict(unchanged))
    if differences:
        name, old, new = differences[0]
        raise InputError(
            f"the run in {workdir} was begun with {name} {old}, not {new}; give the same, or choose another --workdir"
        )
    if epochs > config.epochs:
        raise InputError(
            f"the run in {workdir} has completed {epochs} epochs, more than --epochs {config.epochs}; give at least as "
            "many, or choose another --workdir"
        )
    _write_run(path, config, data, read_initial_sha256(workdir))


def check_joined(workdir: Path, config: TrainConfig, data: str) -> None:
    """Checks that this process takes part in the run that process 0 has claimed the work directory for.

    Args:
      workdir: claimed.
      config: this process's settings.
      data: fingerprint of this process's data.

    Raises:
      InputError: the work directory is not process 0's, or settings or data differ from process 0's.
    """
    if not (workdir / RUN_FILE).exists():
        raise InputError(
            f"{workdir} is not where process 0 has just begun the run; choose a --workdir on a file system that all "
            "processes share"
        )
    claimed, claimed_data = read_run(workdir)
    if claimed_data != data:
        raise InputError("this process reads other data than process 0; give all the same --data-dir, or equal copies")
    differences = _differences(to_dict(claimed), to_dict(config))
    if differences:
        name, first, own = differences[0]
        raise InputError(f"process 0 was started with {name} {first}, this one with {own}; give all the same options")


def read_run(workdir: Path) -> tuple[TrainConfig, str]:
    """The settings and the data fingerprint of the run in a work directory."""
    path = workdir / RUN_FILE
    try:
        values = json.loads(path.read_text("utf-8"))
        if values["format_version"] != FORMAT_VERSION:
            raise InputError(
                f"{path}: format version {values['format_version']}, expected {FORMAT_VERSION}; train anew"
            )
        check_seal(path, values, "restore a copy, or choose another --workdir")
        return from_dict(TrainConfig, values["config"], f"{path}: config"), str(values["data"])
    except FileNotFoundError:
        raise InputError(f"{workdir} holds no run: it has no {RUN_FILE}; give the --workdir of a training") from None
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError(f"{path} cannot be read ({error}); choose another --workdir") from None


def read_versions(workdir: Path) -> dict[str, str]:
    """What the run in a work directory, which `read_run` can read, was computed with: versions by name."""
    versions = json.loads((workdir / RUN_FILE).read_text("utf-8")).get("versions", {})
    return {str(name): str(version) for name, version in versions.items()}


def read_initial_sha256(workdir: Path) -> str | None:
    """Hash of the model that the run in a work directory, which `read_run` can read, began with; None: none."""
    found = json.loads((workdir / RUN_FILE).read_text("utf-8")).get("init_from_sha256")
    return found if isinstance(found, str) else None


def assignments_file(workdir: Path, epoch: int) -> Path:
    """Where an epoch's cluster of every chunk lies: `stage2` of the training split, `stage1` of the unlabelled pool."""
    return workdir / "assignments" / f"epoch-{epoch:06d}.npz"


def read_assignments(workdir: Path, epoch: int) -> dict[str, Int[np.ndarray, " chunks"]]:
    """What `assignments_file` holds; nothing where there is no such file.

    Raises:
      InputError: the file is damaged.
    """
    path = assignments_file(workdir, epoch)
    if not path.exists():
        return {}
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return dict(arrays)
    except Exception as error:
        # Every array has a CRC. Where it, or what is around it, is damaged, zipfile, zlib and NumPy raise many types.
        raise InputError(f"{path} is damaged ({error}); remove it: the run can go on without") from None


def read_training_clusters(workdir: Path, epoch: int) -> Int[np.ndarray, " chunks"] | None:
    """The clusters of the training split's chunks at this epoch; None where the system that was trained has none.

    Raises:
      InputError: the file is damaged.
    """
    return read_assignments(workdir, epoch).get("stage2")


def _write_run(path: Path, config: TrainConfig, data: str, initial_sha256: str | None) -> None:
    versions = {name: importlib.metadata.version(name) for name in _LIBRARIES}
    versions = {"emocluster_jax": __version__, "Python": platform.python_version(), **versions}
    # Scores of an earlier end are not those of the run that begins or goes on now.
    (path.parent / TEST_SCORES).unlink(missing_ok=True)
    values = {"format_version": FORMAT_VERSION, "data": data, "config": to_dict(config), "versions": versions}
    write_json(path, sealed(values if initial_sha256 is None else {**values, "init_from_sha256": initial_sha256}))


def _differences(old: dict[str, Any], new: dict[str, Any], prefix: str = "") -> list[tuple[str, Any, Any]]:
    found = []
    for name, value in old.items():
        if isinstance(value, dict):
            found += _differences(value, new[name], f"{prefix}{name}.")
        elif json.dumps(value) != json.dumps(new[name]):
            found.append((f"{prefix}{name}", value, new[name]))
    return found
