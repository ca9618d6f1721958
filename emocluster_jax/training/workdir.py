"""A work directory belongs to one run: its settings, and the lock while it trains."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.metadata
import io
import json
import platform
import re
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import filelock
import numpy as np
from jaxtyping import Int

from emocluster_jax import __version__
from emocluster_jax.config import TrainConfig
from emocluster_jax.errors import InputError
from emocluster_jax.evaluation.run_results import TEST_SCORES
from emocluster_jax.settings import from_dict, to_dict
from emocluster_jax.storage.atomic_files import remove_leftovers, replacing
from emocluster_jax.storage.bounded_files import read_bytes
from emocluster_jax.storage.json_files import RUN_ENTRY, check_run, read_sealed, shortened, write_sealed

FORMAT_VERSION = 2
_WITHOUT_ID = 1
"""Of runs that do not say what tells their files from other runs'."""
RUN_FILE = "run.json"
CHECKPOINTS = "checkpoints"
"""The folder of a work directory that takes its checkpoints."""
_CHECKPOINT = re.compile(r"epoch-(?P<epoch>\d{6})(-stage-(?P<stage>\d)-step-(?P<step>\d{6,}))?")
# What may change between the parts of a run without changing the epochs that are done.
_CHANGEABLE = ("epochs", "patience", "on_nan", "checkpoint_minutes")
_LOCK = ".lock"
_LIBRARIES = ("jax", "jaxlib", "flax", "optax", "numpy", "scikit-learn")
"""Whose versions are saved with a run."""
_ID_DIGITS = 16
_EPOCH_ENTRY = "epoch"
_MOST_ASSIGNMENT_BYTES = 1 << 30
"""Of an epoch's clusters: those of some twenty million recordings."""


@dataclass(frozen=True)
class SavedRun:
    """What a work directory says of its run.

    Attributes:
      config: its settings.
      data: fingerprint of its data (`Preparation.fingerprint`).
      id: what its files are known by, 16 hexadecimal digits; runs of the same settings and data have the same one.
        Empty for a run that an earlier version began, whose files say nothing of it.
      initial_sha256: hash of the model that it began with by `config.init_from`; None: a random draw.
      versions: of what it was computed with, by name.
    """

    config: TrainConfig
    data: str
    id: str
    initial_sha256: str | None = None
    versions: Mapping[str, str] = field(default_factory=dict)


@contextmanager
def locked(workdir: Path) -> Iterator[None]:
    """Keeps other processes from training in the same work directory.

    What a run that was killed left there half-written is removed.

    Raises:
      InputError: one is training there, or nothing can be written there.
    """
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(workdir / _LOCK, blocking=False)
        lock.acquire()
    except filelock.Timeout:
        raise InputError(f"another process is training in {workdir}; wait for it or choose another `workdir`") from None
    except OSError as error:
        raise InputError(f"cannot write to {workdir} ({error.strerror}); choose another `workdir`") from None
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


def is_locked(workdir: Path) -> bool:
    """Whether another process is training in a work directory, which exists and can be written to."""
    try:
        with filelock.FileLock(workdir / _LOCK, blocking=False):
            return False
    except filelock.Timeout:
        return True


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
      InputError: there is a run and `resume` is false; or the run there has other settings or data, or more epochs, or
        its checkpoints do not say that they are its own, as an earlier version left them; or there are checkpoints
        alone.
    """
    path = workdir / RUN_FILE
    checkpoints = checkpoints_by_position(workdir / CHECKPOINTS)
    if not checkpoints:
        _write_run(path, config, data, _id_of(config, data, initial_sha256), initial_sha256)
        return
    if not path.exists():
        raise InputError(
            f"{workdir} has checkpoints, but no {RUN_FILE} that says which run they are of; restore a copy of it, or "
            "choose another `workdir`"
        )
    if not resume:
        raise InputError(f"{workdir} holds a run already; add `resume` to go on with it, or choose another `workdir`")
    stored = read_run(workdir)
    if not stored.id:
        raise InputError(
            f"the run in {workdir} was begun by an earlier version, whose checkpoints do not say which run they are "
            f"of; end it with that version, remove {workdir}, or choose another `workdir`"
        )
    if stored.data != data:
        raise InputError(f"the run in {workdir} was begun on other data; give its `data_dir`, or another `workdir`")
    unchanged = dataclasses.replace(config, **{name: getattr(stored.config, name) for name in _CHANGEABLE})
    differences = _differences(to_dict(stored.config), to_dict(unchanged))
    if differences:
        name, old, new = differences[0]
        raise InputError(
            f"the run in {workdir} was begun with {name} {old}, not {new}; give the same, or choose another `workdir`"
        )
    if (epochs := max(checkpoints)[0]) > config.epochs:
        raise InputError(
            f"the run in {workdir} has completed {epochs} epochs, more than `epochs={config.epochs}`; give at least as "
            "many, or choose another `workdir`"
        )
    _write_run(path, config, data, stored.id, stored.initial_sha256)


def has_checkpoint(workdir: Path) -> bool:
    """Whether a run has left anything to go on with in this work directory."""
    return bool(checkpoints_by_position(workdir / CHECKPOINTS))


def checkpoints_by_position(directory: Path) -> dict[tuple[int, int, int], Path]:
    """The checkpoints in a folder by (epochs complete, stages begun, steps of the last of these)."""
    found = ((_CHECKPOINT.fullmatch(path.name), path) for path in directory.glob("epoch-*"))
    return {(int(name["epoch"]), int(name["stage"] or 0), int(name["step"] or 0)): path for name, path in found if name}


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
            f"{workdir} is not where process 0 has just begun the run; choose a `workdir` on a file system that all "
            "processes share"
        )
    claimed = read_run(workdir)
    if claimed.data != data:
        raise InputError("this process reads other data than process 0; give all the same `data_dir`, or equal copies")
    differences = _differences(to_dict(claimed.config), to_dict(config))
    if differences:
        name, first, own = differences[0]
        raise InputError(f"process 0 was started with {name} {first}, this one with {own}; give all the same options")


def read_run(workdir: Path) -> SavedRun:
    """The run in a work directory.

    Raises:
      InputError: there is none, it is of another format version, or what it says is damaged.
    """
    path, remedy = workdir / RUN_FILE, "restore a copy, or choose another `workdir`"
    missing = f"{workdir} holds no run: it has no {RUN_FILE}; give the `workdir` of a training"
    versions = (_WITHOUT_ID, FORMAT_VERSION)
    values = read_sealed(path, remedy, versions=versions, renewal="train again", missing=missing)
    try:
        texts = {"id": "", "init_from_sha256": None, **values}
        initial = texts["init_from_sha256"]
        if not all(isinstance(text, str) for text in (values["data"], texts["id"], initial or "")):
            raise TypeError("data, id or init_from_sha256 is not text")
        return SavedRun(
            config=from_dict(TrainConfig, values["config"], f"{path}: config"),
            data=values["data"],
            id="" if values["format_version"] == _WITHOUT_ID else texts["id"],
            initial_sha256=initial,
            versions={str(name): str(found) for name, found in values.get("versions", {}).items()},
        )
    except (KeyError, TypeError, AttributeError) as error:
        detail = f"no entry {error}" if isinstance(error, KeyError) else str(error)
        raise InputError(f"{path} is damaged ({detail}); {remedy}") from None


def assignments_file(workdir: Path, epoch: int) -> Path:
    """Where an epoch's cluster of every chunk lies: `stage2` of the training split, `stage1` of the unlabelled pool."""
    return workdir / "assignments" / f"epoch-{epoch:06d}.npz"


def write_assignments(
    workdir: Path, epoch: int, run_id: str, assignments: Mapping[str, Int[np.ndarray, " chunks"]]
) -> None:
    """Writes an epoch's `assignments_file`, which names its run and the epoch."""
    path = assignments_file(workdir, epoch)
    path.parent.mkdir(parents=True, exist_ok=True)
    arrays: dict[str, Any] = {**assignments, RUN_ENTRY: np.array(run_id), _EPOCH_ENTRY: np.array(epoch)}
    with replacing(path) as temporary:
        np.savez_compressed(temporary, **arrays)


def read_assignments(
    workdir: Path, epoch: int, run_id: str = "", clusters: int | None = None
) -> dict[str, Int[np.ndarray, " chunks"]]:
    """What `write_assignments` wrote; nothing where there is no such file.

    Args:
      workdir: of the run.
      epoch: whose clusters are wanted.
      run_id: of the run that they have to be of.
      clusters: how many there are; None takes any numbers from 0.

    Raises:
      InputError: the file is damaged, or of another run or epoch.
    """
    path, remedy = assignments_file(workdir, epoch), "remove it: the run can go on without"
    try:
        content = read_bytes(path, remedy, _MOST_ASSIGNMENT_BYTES)
    except FileNotFoundError:
        return {}
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            _refuse_large(archive)
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            found = dict(arrays)
        names = found.pop(RUN_ENTRY, np.array(""))
        if names.shape or names.dtype.kind != "U":
            raise ValueError(f"{RUN_ENTRY} is not text")
        of_epoch = found.pop(_EPOCH_ENTRY, np.array(0)).tolist()
        for name, numbers in found.items():
            _check_assignments(name, numbers, clusters)
    except Exception as error:
        # Every array has a CRC. Where it, or what is around it, is damaged, zipfile, zlib and NumPy raise many types.
        raise InputError(f"{path} is damaged ({shortened(str(error))}); {remedy}") from None
    check_run(path, str(names), run_id)
    # Without a run they are of an earlier version, which did not write down the epoch either.
    if run_id and of_epoch != epoch:
        raise InputError(f"{path} is of another epoch; {remedy}")
    return found


def _refuse_large(archive: zipfile.ZipFile) -> None:
    """Compressed, zeros take a thousandth of their size; no more is unpacked than what the archive says."""
    unpacked = sum(member.file_size for member in archive.infolist())
    if unpacked > _MOST_ASSIGNMENT_BYTES:
        raise ValueError(f"{unpacked} bytes when unpacked, expected {_MOST_ASSIGNMENT_BYTES} at most")


def _check_assignments(name: str, numbers: np.ndarray, clusters: int | None) -> None:
    if numbers.ndim != 1 or numbers.dtype.kind not in "iu":
        raise ValueError(f"{name} is not a list of whole numbers")
    if len(numbers) and (numbers.min() < 0 or (clusters is not None and numbers.max() >= clusters)):
        raise ValueError(f"{name} has clusters from {numbers.min()} to {numbers.max()}, of {clusters}")


def read_training_clusters(workdir: Path, epoch: int, run: SavedRun, chunks: int) -> Int[np.ndarray, " chunks"] | None:
    """The clusters of the training split's chunks at this epoch; None where the system that was trained has none.

    Args:
      workdir: of the run.
      epoch: whose clusters are wanted.
      run: the run.
      chunks: of the training split.

    Raises:
      InputError: the file is damaged, or not of this run and split.
    """
    found = read_assignments(workdir, epoch, run.id, run.config.model.clusters).get("stage2")
    if found is not None and len(found) != chunks:
        raise InputError(
            f"{assignments_file(workdir, epoch)} has clusters of {len(found)} chunks, not of the training split's "
            f"{chunks}; put back the run's own file, or remove it"
        )
    return found


def _id_of(config: TrainConfig, data: str, initial_sha256: str | None) -> str:
    """`SavedRun.id` of a run that begins; one that goes on keeps its own, whatever settings later versions add."""
    settings = {name: value for name, value in to_dict(config).items() if name not in _CHANGEABLE}
    digest = hashlib.sha256(json.dumps([settings, data, initial_sha256], sort_keys=True).encode())
    return digest.hexdigest()[:_ID_DIGITS]


def _write_run(path: Path, config: TrainConfig, data: str, run_id: str, initial_sha256: str | None) -> None:
    versions = {name: importlib.metadata.version(name) for name in _LIBRARIES}
    versions = {"emocluster_jax": __version__, "Python": platform.python_version(), **versions}
    # Scores of an earlier end are not those of the run that begins or goes on now.
    (path.parent / TEST_SCORES).unlink(missing_ok=True)
    values = {
        "format_version": FORMAT_VERSION,
        "id": run_id,
        "data": data,
        "config": to_dict(config),
        "versions": versions,
    }
    write_sealed(path, values if initial_sha256 is None else {**values, "init_from_sha256": initial_sha256})


def _differences(old: dict[str, Any], new: dict[str, Any], prefix: str = "") -> list[tuple[str, Any, Any]]:
    found = []
    for name, value in old.items():
        if isinstance(value, dict):
            found += _differences(value, new[name], f"{prefix}{name}.")
        elif json.dumps(value) != json.dumps(new[name]):
            found.append((f"{prefix}{name}", value, new[name]))
    return found
