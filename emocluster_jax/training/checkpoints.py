"""The latest training state of a run, so that a stopped run goes on as if it had never stopped.

A checkpoint is one Orbax folder an epoch, `epoch-000012`; it appears by a rename once it is complete. The one before is
kept beside it, in case the newest turns out to be damaged; older ones are removed. The random keys of an epoch follow
from the seed and the epoch's number, so that parameters, batch statistics, Adam's moments and the record of the best
epoch are all there is to keep.
"""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

from emocluster_jax.model_directory import restore_arrays, save_arrays
from emocluster_jax.training.state import TrainState

CHECKPOINTS = "checkpoints"
"""The folder of a work directory that takes them."""

_NAME = re.compile(r"epoch-(\d{6})")


@dataclass(frozen=True)
class Progress:
    """How far a run has come.

    Attributes:
      epoch: epochs completed.
      best_epoch: the one with the best validation CCC; 0 before there is one.
      best_ccc: its validation CCC, mean over the attributes; minus infinity before there is one.
    """

    epoch: int = 0
    best_epoch: int = 0
    best_ccc: float = -np.inf


def save_checkpoint(directory: Path, state: TrainState, progress: Progress) -> None:
    """Writes the checkpoint of the epoch just completed, and removes all earlier ones but the last.

    Args:
      directory: of all checkpoints of the run.
      state: without a device axis.
      progress: including this epoch.
    """
    directory.mkdir(parents=True, exist_ok=True)
    newest = directory / f"epoch-{progress.epoch:06d}"
    save_arrays(newest, {"state": _by_name(state), "progress": _as_arrays(progress)})
    for other in sorted(_epochs(directory))[:-2]:
        shutil.rmtree(other)


def restore_checkpoint(directory: Path, template: TrainState) -> tuple[TrainState, Progress] | None:
    """The latest checkpoint, or None where there is none.

    Args:
      directory: of all checkpoints of the run.
      template: a state of the same structure, shapes and types.

    Raises:
      InputError: the checkpoint is damaged, or of a network of another shape. The checkpoint before it is not taken in
        its place: that a disk fails is for a person to know.
    """
    epochs = sorted(_epochs(directory))
    if not epochs:
        return None
    newest, before = epochs[-1], epochs[-2].name if len(epochs) > 1 else "the start"
    names, structure = _by_name(template), jax.tree.structure(template)
    shapes = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype),
        {"state": names, "progress": _as_arrays(Progress())},
    )
    arrays = restore_arrays(newest, shapes, f"remove {newest} and resume: the run then goes on from {before}")
    state = jax.tree.unflatten(structure, [arrays["state"][name] for name in names])
    values = {name: value.item() for name, value in arrays["progress"].items()}
    return state, Progress(**values)


def completed_epochs(workdir: Path) -> int:
    """How many epochs the run in this work directory has completed."""
    return max((int(path.name.removeprefix("epoch-")) for path in _epochs(workdir / CHECKPOINTS)), default=0)


def _epochs(directory: Path) -> list[Path]:
    return [path for path in directory.glob("epoch-*") if _NAME.fullmatch(path.name)]


def _by_name(state: TrainState) -> dict[str, Any]:
    """The state's arrays by their path: a plain dictionary outlives changes in how the optimisers nest their states."""
    leaves = jax.tree_util.tree_flatten_with_path(state)[0]
    return {jax.tree_util.keystr(path, simple=True, separator="/"): np.asarray(leaf) for path, leaf in leaves}


def _as_arrays(progress: Progress) -> dict[str, np.ndarray]:
    return {
        "epoch": np.asarray(progress.epoch, np.int64),
        "best_epoch": np.asarray(progress.best_epoch, np.int64),
        "best_ccc": np.asarray(progress.best_ccc, np.float64),
    }
