"""Checkpoints, from which a stopped run continues as if it had never stopped.

A checkpoint is an Orbax folder per epoch, `epoch-000012`, which appears by a rename once it is complete. The previous
one is kept in case the newest is damaged. An epoch's random keys follow from the seed and its number, so that a
checkpoint only holds parameters, batch statistics, Adam's moments and which epoch was best. One within an epoch,
`epoch-000012-stage-2-step-000340` (12 epochs and 340 steps of the next one's second stage), also holds the clusters of
the stages begun.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from emocluster_jax.errors import InputError
from emocluster_jax.inference.model_directory import restore_arrays, save_arrays
from emocluster_jax.runtime import parallel
from emocluster_jax.training.epoch import StageProgress
from emocluster_jax.training.steps import TrainState
from emocluster_jax.training.workdir import checkpoints_by_position

_ID_BYTES = 16


class Progress(NamedTuple):
    """How far a run has come.

    Attributes:
      epoch: epochs completed.
      best_epoch: the one that `config.TrainConfig.select_by` chose; 0 before there is one.
      best_value: its value of that metric; minus infinity before there is one.
    """

    epoch: int = 0
    best_epoch: int = 0
    best_value: float = -np.inf


class Checkpoint(NamedTuple):
    """All that a run needs to continue.

    Attributes:
      state: without a device axis where it is written and read.
      progress: of the completed epochs.
      stages: those begun of the next epoch, in order; all but the last are complete.
    """

    state: TrainState
    progress: Progress
    stages: tuple[StageProgress, ...] = ()


class SaveClock:
    """Says, on all processes at once, when to save within an epoch: `minutes` after the last time, never for None."""

    def __init__(self, minutes: float | None) -> None:
        self._minutes = minutes
        self.restart()

    def restart(self) -> None:
        self._written = time.monotonic()

    def is_due(self) -> bool:
        if self._minutes is None:
            return False
        return parallel.anywhere(time.monotonic() - self._written >= 60 * self._minutes)


def save_checkpoint(directory: Path, checkpoint: Checkpoint, run_id: str = "") -> None:
    """Writes a checkpoint to the run's folder of checkpoints, and removes all but the two latest."""
    directory.mkdir(parents=True, exist_ok=True)
    name = f"epoch-{checkpoint.progress.epoch:06d}"
    tree = {"state": _by_name(checkpoint.state), **_position(checkpoint.progress, run_id)}
    if checkpoint.stages:
        name += f"-stage-{len(checkpoint.stages)}-step-{checkpoint.stages[-1].steps:06d}"
        tree["stages"] = _by_name(checkpoint.stages)
    save_arrays(directory / name, jax.tree.map(np.asarray, tree))
    there = checkpoints_by_position(directory)
    for position in sorted(there)[:-2]:
        shutil.rmtree(there[position])


def restore_checkpoint(
    directory: Path, template: TrainState, stages: Callable[[], Sequence[StageProgress]] = tuple, run_id: str = ""
) -> Checkpoint | None:
    """The latest checkpoint, or None if there is none.

    The `template` is a state of the same structure, shapes and types; `stages`, called if the checkpoint was written
    within an epoch, returns the same for the progress of an epoch's stages.

    Raises:
      InputError: it is damaged, of another run, or of a network of another shape. The previous checkpoint is not used
        instead, since the user should know that a disk fails.
    """
    checkpoints = checkpoints_by_position(directory)
    if not checkpoints:
        return None
    *earlier, latest = sorted(checkpoints)
    newest, before = checkpoints[latest], checkpoints[earlier[-1]].name if earlier else "the start"
    remedy = f"remove {newest} and resume: the run then goes on from {before}"
    templates: dict[str, Any] = {"state": template}
    if begun := latest[1]:
        templates["stages"] = tuple(stages()[:begun])
    position = _position(Progress(), run_id)
    expected = {**{key: _by_name(tree) for key, tree in templates.items()}, **position}
    shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), expected)
    arrays = restore_arrays(newest, shapes, remedy)
    progress = Progress(*(arrays["progress"][name].item() for name in position["progress"]))
    if not np.array_equal(arrays["run"]["id"], position["run"]["id"]) or progress.epoch != latest[0]:
        raise InputError(f"{newest} is of another run or epoch; {remedy}")
    restored = {
        key: jax.tree.unflatten(jax.tree.structure(tree), [arrays[key][name] for name in _by_name(tree)])
        for key, tree in templates.items()
    }
    found = tuple(stage._replace(steps=int(stage.steps)) for stage in restored.get("stages", ()))
    return Checkpoint(restored["state"], progress, found)


def _by_name(tree: Any) -> dict[str, Any]:
    """A tree's arrays by path, which does not depend on how the optimisers nest their states."""
    leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in leaves}


def _position(progress: Progress, run_id: str) -> dict[str, dict[str, np.ndarray]]:
    """The entries beside the network; `best_ccc` is named as by versions that could only select by the CCC."""
    types = {"epoch": np.int64, "best_epoch": np.int64, "best_ccc": np.float64}
    numbers = {name: np.asarray(value, types[name]) for name, value in zip(types, progress, strict=True)}
    return {"progress": numbers, "run": {"id": np.frombuffer(run_id.encode().ljust(_ID_BYTES), np.uint8)}}
