"""The latest training state of a run, so that a stopped run goes on as if it had never stopped.

A checkpoint is one Orbax folder an epoch, `epoch-000012`; it appears by a rename once it is complete. The one before is
kept beside it, in case the newest turns out to be damaged; older ones are removed. The random keys of an epoch follow
from the seed and the epoch's number, so that parameters, batch statistics, Adam's moments and the record of the best
epoch are all there is to keep. A run that is stopped within an epoch also keeps the clusters of the stages that it has
begun, in `epoch-000012-stage-2-step-000340`: 12 epochs are complete, and of the next one's second stage 340 steps.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from emocluster_jax.errors import InputError
from emocluster_jax.inference.model_directory import restore_arrays, save_arrays
from emocluster_jax.runtime import parallel
from emocluster_jax.training.epoch import StageProgress
from emocluster_jax.training.state import TrainState
from emocluster_jax.training.workdir import checkpoints_by_position

_ID_BYTES = 16
_BEST_VALUE = "best_ccc"
"""The array's name is that of earlier versions, which could select by the CCC alone."""


@dataclass(frozen=True)
class Progress:
    """How far a run has come.

    Attributes:
      epoch: epochs completed.
      best_epoch: the one with the best value of what selects (`config.TrainConfig.select_by`); 0 before there is one.
      best_value: that value; minus infinity before there is one.
    """

    epoch: int = 0
    best_epoch: int = 0
    best_value: float = -np.inf


class Checkpoint(NamedTuple):
    """All that a run needs to go on.

    Attributes:
      state: without a device axis.
      progress: of the epochs completed.
      stages: of the epoch that was begun after them, those that were begun, in their order; all but the last are
        complete.
    """

    state: TrainState
    progress: Progress
    stages: tuple[StageProgress, ...] = ()


class SaveClock:
    """Says when the next checkpoint within an epoch is due, at the same time on all processes.

    Args:
      minutes: between the end of one and the beginning of the next; None for none within epochs.
    """

    def __init__(self, minutes: float | None) -> None:
        self._minutes = minutes
        self.restart()

    def restart(self) -> None:
        """A checkpoint has just been written."""
        self._written = time.monotonic()

    def is_due(self) -> bool:
        if self._minutes is None:
            return False
        return parallel.anywhere(time.monotonic() - self._written >= 60 * self._minutes)


def save_checkpoint(directory: Path, checkpoint: Checkpoint, run_id: str = "") -> None:
    """Writes a checkpoint, and removes all earlier ones but the last.

    Args:
      directory: of all checkpoints of the run.
      checkpoint: further than those that are there.
      run_id: what the run's files are known by (`SavedRun.id`).
    """
    directory.mkdir(parents=True, exist_ok=True)
    name = f"epoch-{checkpoint.progress.epoch:06d}"
    tree = {"state": _by_name(checkpoint.state), "progress": _as_arrays(checkpoint.progress), "run": _run(run_id)}
    if checkpoint.stages:
        name += f"-stage-{len(checkpoint.stages)}-step-{checkpoint.stages[-1].steps:06d}"
        tree["stages"] = _by_name(checkpoint.stages)
    save_arrays(directory / name, jax.tree.map(np.asarray, tree))
    there = checkpoints_by_position(directory)
    for position in sorted(there)[:-2]:
        shutil.rmtree(there[position])


def restore_checkpoint(
    directory: Path,
    template: TrainState,
    stages: Callable[[], Sequence[StageProgress]] = tuple,
    run_id: str = "",
) -> Checkpoint | None:
    """The latest checkpoint, or None where there is none.

    Args:
      directory: of all checkpoints of the run.
      template: a state of the same structure, shapes and types.
      stages: the same of an epoch's stages, asked for where the run was stopped within an epoch.
      run_id: what the run's files are known by.

    Raises:
      InputError: the checkpoint is damaged, of another run, or of a network of another shape. The checkpoint before it
        is not taken in its place: that a disk fails is for a person to know.
    """
    checkpoints = checkpoints_by_position(directory)
    if not checkpoints:
        return None
    *earlier, latest = sorted(checkpoints)
    newest, before = checkpoints[latest], checkpoints[earlier[-1]].name if earlier else "the start"
    remedy = f"remove {newest} and resume: the run then goes on from {before}"
    trees: dict[str, Any] = {"state": template, "progress": _as_arrays(Progress()), "run": _run(run_id)}
    if begun := latest[1]:
        trees["stages"] = tuple(stages()[:begun])
    shapes = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), {key: _by_name(tree) for key, tree in trees.items()}
    )
    arrays = restore_arrays(newest, shapes, remedy)
    restored = {
        key: jax.tree.unflatten(jax.tree.structure(tree), [arrays[key][name] for name in _by_name(tree)])
        for key, tree in trees.items()
    }
    epoch, best_epoch, best_value = (restored["progress"][name].item() for name in _as_arrays(Progress()))
    progress = Progress(epoch, best_epoch, best_value)
    if not np.array_equal(restored["run"]["id"], _run(run_id)["id"]) or progress.epoch != latest[0]:
        raise InputError(f"{newest} is of another run or epoch; {remedy}")
    return Checkpoint(
        restored["state"],
        progress,
        tuple(stage._replace(steps=int(stage.steps)) for stage in restored.get("stages", ())),
    )


def _by_name(tree: Any) -> dict[str, Any]:
    """A tree's arrays by their path: a plain dictionary outlives changes in how the optimisers nest their states."""
    leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in leaves}


def _as_arrays(progress: Progress) -> dict[str, np.ndarray]:
    return {
        "epoch": np.asarray(progress.epoch, np.int64),
        "best_epoch": np.asarray(progress.best_epoch, np.int64),
        _BEST_VALUE: np.asarray(progress.best_value, np.float64),
    }


def _run(run_id: str) -> dict[str, np.ndarray]:
    return {"id": np.frombuffer(run_id.encode().ljust(_ID_BYTES), np.uint8)}
