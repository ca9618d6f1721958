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
from emocluster_jax.settings import from_dict, values_of
from emocluster_jax.storage.atomic_files import remove_leftovers, replacing
from emocluster_jax.storage.checksums import read_bytes
from emocluster_jax.storage.json_files import RUN_ENTRY, check_run, read_sealed, shortened, write_sealed

FORMAT_VERSION = 2
_WITHOUT_ID = 1
"""The version of runs without an id."""
RUN_FILE = "run.json"
CHECKPOINTS = "checkpoints"
"""The folder of checkpoints in a work directory."""
_CHECKPOINT = re.compile(r"epoch-(?P<epoch>\d{6})(-stage-(?P<stage>\d)-step-(?P<step>\d{6,}))?")
# What may change when a run is resumed, as it does not affect completed epochs.
_CHANGEABLE = ("epochs", "patience", "on_nan", "checkpoint_minutes")
_LOCK = ".lock"
_LIBRARIES = ("jax", "jaxlib", "flax", "optax", "numpy", "scikit-learn")
"""Their versions are saved with a run."""
_ID_DIGITS = 16
_EPOCH_ENTRY = "epoch"
_MOST_ASSIGNMENT_BYTES = 1 << 30
"""The limit for an epoch's assignments: some twenty million recordings."""


@dataclass(frozen=True)
class SavedRun:
    """The run of a work directory.

    Attributes:
      config: its settings.
      data: fingerprint of its data (`Preparation.fingerprint`).
      id: 16 hexadecimal digits by which its files name it, the same for equal settings and data; empty in earlier
        versions.
      initial_sha256: hash of the model that `config.init_from` named; None for a random draw.
      versions: of Python and the libraries, by name.
    """

    config: TrainConfig
    data: str
    id: str
    initial_sha256: str | None = None
    versions: Mapping[str, str] = field(default_factory=dict)


@contextmanager
def locked(workdir: Path) -> Iterator[None]:
    """Locks a work directory against other trainings, and removes files that a killed run left half-written.

    Raises InputError if another process is training there, or nothing can be written there.
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
            # Only the run's own: other processes may be writing other files there.
            for names in ("run.*", "metrics.*", "test*", "clusters.*"):
                remove_leftovers(workdir, names)
            yield
        finally:
            lock.release()


def is_locked(workdir: Path) -> bool:
    """Whether another process is training in an existing, writable work directory."""
    try:
        with filelock.FileLock(workdir / _LOCK, blocking=False):
            return False
    except filelock.Timeout:
        return True


def claim(workdir: Path, config: TrainConfig, data: str, *, resume: bool, initial_sha256: str | None = None) -> None:
    """Assigns the work directory to this run, or checks that it holds the run to resume.

    A run without a checkpoint has nothing to lose and is replaced. `data` and `initial_sha256` are as in `SavedRun`; a
    resumed run keeps its own `initial_sha256`.

    Raises InputError if there is a run, and `resume` is false or it is another one.
    """
    path = workdir / RUN_FILE
    checkpoints = checkpoints_by_position(workdir / CHECKPOINTS)
    if not checkpoints:
        _write_run(path, config, data, _id_of(config, data, initial_sha256), initial_sha256)
        return
    if not has_run(workdir):
        raise InputError(
            f"{workdir} has checkpoints, but no {RUN_FILE} that says which run they are of; restore a copy of it, or "
            "choose another `workdir`"
        )
    if not resume:
        raise InputError(f"{workdir} holds a run already; add `resume` to go on with it, or choose another `workdir`")
    stored = read_run(workdir)
    if not stored.id:
        raise InputError(
            f"the run in {workdir} was begun by an earlier version, and its checkpoints do not name their run; end it "
            f"with that version, remove {workdir}, or choose another `workdir`"
        )
    if stored.data != data:
        raise InputError(f"the run in {workdir} was begun on other data; give its `data_dir`, or another `workdir`")
    unchanged = dataclasses.replace(config, **{name: getattr(stored.config, name) for name in _CHANGEABLE})
    for name, old, new in _differences(stored.config, unchanged):
        raise InputError(
            f"the run in {workdir} was begun with `{name}={old}`, not {new}; leave it and any preset out, as a resumed "
            f"run keeps its settings, or choose another `workdir`, with `config={path}` for the run's other settings"
        )
    if config.optimizer.schedule != "constant" and config.epochs != stored.config.epochs:
        raise InputError(
            f"the run in {workdir} was begun with `epochs={stored.config.epochs}`, over which `schedule=cosine` lowers "
            "its learning rates; leave `epochs` out, or choose another `workdir`"
        )
    if (epochs := max(checkpoints)[0]) > config.epochs:
        raise InputError(
            f"the run in {workdir} has completed {epochs} epochs, more than `epochs={config.epochs}`; give at least as "
            "many, or choose another `workdir`"
        )
    _write_run(path, config, data, stored.id, stored.initial_sha256)


def has_checkpoint(workdir: Path) -> bool:
    """Whether the work directory has a checkpoint to resume from."""
    return bool(checkpoints_by_position(workdir / CHECKPOINTS))


def checkpoints_by_position(directory: Path) -> dict[tuple[int, int, int], Path]:
    """The checkpoints in a folder by (epochs complete, stages begun, steps of the last of these)."""
    found = ((_CHECKPOINT.fullmatch(path.name), path) for path in directory.glob("epoch-*"))
    return {(int(name["epoch"]), int(name["stage"] or 0), int(name["step"] or 0)): path for name, path in found if name}


def check_joined(workdir: Path, config: TrainConfig, data: str) -> None:
    """Raises InputError unless this process has the work directory, settings and data that process 0 has claimed."""
    if not has_run(workdir):
        raise InputError(
            f"{workdir} is not where process 0 has just begun the run; choose a `workdir` on a file system that all "
            "processes share"
        )
    claimed = read_run(workdir)
    if claimed.data != data:
        raise InputError("this process reads other data than process 0; give all the same `data_dir`, or equal copies")
    for name, first, own in _differences(claimed.config, config):
        raise InputError(f"process 0 was started with `{name}={first}`, this one with {own}; give all the same options")


def has_run(workdir: Path) -> bool:
    """Whether the work directory holds a run, which may not have a checkpoint yet."""
    return (workdir / RUN_FILE).exists()


def read_run(workdir: Path) -> SavedRun:
    """The run in a work directory; InputError if there is none, or one of another version, or it is damaged."""
    path, remedy = workdir / RUN_FILE, "restore a copy, or choose another `workdir`"
    missing = f"{workdir} holds no run: it has no {RUN_FILE}; give the `workdir` of a training"
    versions = (_WITHOUT_ID, FORMAT_VERSION)
    values = read_sealed(path, remedy, versions=versions, renewal="train again", missing=missing)
    try:
        data, run_id, initial = values["data"], values.get("id", ""), values.get("init_from_sha256")
        if not all(isinstance(text, str) for text in (data, run_id, initial or "")):
            raise TypeError("data, id or init_from_sha256 is not text")
        return SavedRun(
            config=from_dict(TrainConfig, values["config"], f"{path}: config"),
            data=data,
            id="" if values["format_version"] == _WITHOUT_ID else run_id,
            initial_sha256=initial,
            versions={str(name): str(found) for name, found in values.get("versions", {}).items()},
        )
    except (KeyError, TypeError, AttributeError) as error:
        detail = f"no entry {error}" if isinstance(error, KeyError) else error
        raise InputError(f"{path} is damaged ({detail}); {remedy}") from None


def assignments_file(workdir: Path, epoch: int) -> Path:
    """The file with the cluster of every chunk: `stage2` of the training split, `stage1` of the unlabelled pool."""
    return workdir / "assignments" / f"epoch-{epoch:06d}.npz"


def write_assignments(
    workdir: Path, epoch: int, run_id: str, assignments: Mapping[str, Int[np.ndarray, " chunks"]]
) -> None:
    """Writes an epoch's `assignments_file`, which also names its run and epoch."""
    path = assignments_file(workdir, epoch)
    path.parent.mkdir(parents=True, exist_ok=True)
    arrays: dict[str, Any] = {**assignments, RUN_ENTRY: np.array(run_id), _EPOCH_ENTRY: np.array(epoch)}
    with replacing(path) as temporary:
        np.savez_compressed(temporary, **arrays)


def read_assignments(
    workdir: Path, epoch: int, run_id: str = "", clusters: int | None = None
) -> dict[str, Int[np.ndarray, " chunks"]]:
    """What `write_assignments` wrote; nothing if there is no such file.

    Raises InputError if the file is damaged, of another run or epoch, or not of so many `clusters` (None for any).
    """
    path, remedy = assignments_file(workdir, epoch), "remove it: the run can go on without"
    try:
        content = read_bytes(path, remedy, _MOST_ASSIGNMENT_BYTES)
    except FileNotFoundError:
        return {}
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            unpacked = sum(member.file_size for member in archive.infolist())
        if unpacked > _MOST_ASSIGNMENT_BYTES:  # compressed zeros take a thousandth of their size
            raise ValueError(f"{unpacked} bytes when unpacked, expected {_MOST_ASSIGNMENT_BYTES} at most")
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            found = dict(arrays)
        names = found.pop(RUN_ENTRY, np.array(""))
        if names.shape or names.dtype.kind != "U":
            raise ValueError(f"{RUN_ENTRY} is not text")
        of_epoch = found.pop(_EPOCH_ENTRY, np.array(0)).tolist()
        for name, numbers in found.items():
            if numbers.ndim != 1 or numbers.dtype.kind not in "iu":
                raise ValueError(f"{name} is not a list of whole numbers")
            if len(numbers) and (numbers.min() < 0 or (clusters is not None and numbers.max() >= clusters)):
                raise ValueError(f"{name} has clusters from {numbers.min()} to {numbers.max()}, of {clusters}")
    except Exception as error:
        # Every array has a CRC. For damaged files zipfile, zlib and NumPy raise many types of exceptions.
        raise InputError(f"{path} is damaged ({shortened(str(error))}); {remedy}") from None
    check_run(path, str(names), run_id)
    # Without a run they are of an earlier version, which did not store the epoch either.
    if run_id and of_epoch != epoch:
        raise InputError(f"{path} is of another epoch; {remedy}")
    return found


def read_training_clusters(workdir: Path, epoch: int, run: SavedRun, chunks: int) -> Int[np.ndarray, " chunks"] | None:
    """The clusters of the training split's chunks at this epoch; None for systems without clusters.

    Raises InputError as `read_assignments` does, and for another number of chunks.
    """
    found = read_assignments(workdir, epoch, run.id, run.config.model.clusters).get("stage2")
    if found is not None and len(found) != chunks:
        raise InputError(
            f"{assignments_file(workdir, epoch)} has clusters of {len(found)} chunks, not of the training split's "
            f"{chunks}; put back the run's own file, or remove it"
        )
    return found


def _id_of(config: TrainConfig, data: str, initial_sha256: str | None) -> str:
    """`SavedRun.id` of a new run; a resumed one keeps its own, whatever settings later versions add."""
    settings = {name: value for name, value in dataclasses.asdict(config).items() if name not in _CHANGEABLE}
    digest = hashlib.sha256(json.dumps([settings, data, initial_sha256], sort_keys=True).encode())
    return digest.hexdigest()[:_ID_DIGITS]


def _write_run(path: Path, config: TrainConfig, data: str, run_id: str, initial_sha256: str | None) -> None:
    libraries = {name: importlib.metadata.version(name) for name in _LIBRARIES}
    # Earlier scores are not those of the run that starts or continues now.
    (path.parent / TEST_SCORES).unlink(missing_ok=True)
    values = {
        "format_version": FORMAT_VERSION,
        "id": run_id,
        "data": data,
        "config": dataclasses.asdict(config),
        "versions": {"emocluster_jax": __version__, "Python": platform.python_version(), **libraries},
    }
    write_sealed(path, values if initial_sha256 is None else {**values, "init_from_sha256": initial_sha256})


def _differences(old: TrainConfig, new: TrainConfig) -> Iterator[tuple[str, str, str]]:
    """The settings with different values: name and both values, for messages."""
    for (setting, before), (_, after) in zip(values_of(old), values_of(new), strict=True):
        if before != after:
            yield setting.name, _in_words(before), _in_words(after)


def _in_words(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, tuple) else str(value)
