"""A grid with its data and its folder: where each run lies, and its settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from emocluster_jax.config import SystemName, TrainConfig
from emocluster_jax.experiment.grid import Grid, Run, run_config


@dataclass(frozen=True)
class Plan:
    """What an experiment consists of.

    Attributes:
      grid: its runs.
      shared: by system, the settings that its runs share; what the grid varies is replaced.
      data_dir: prepared records.
      data: the fingerprints by which runs may know these records (`Preparation.fingerprints`).
      workdir: takes the runs' work directories and the results.
    """

    grid: Grid
    shared: Mapping[SystemName, TrainConfig]
    data_dir: Path
    data: tuple[str, ...]
    workdir: Path

    def folder(self, run: Run) -> Path:
        """The work directory of a run."""
        return self.workdir / "runs" / run.name

    def config(self, run: Run) -> TrainConfig:
        """All settings of a run."""
        return run_config(run, self.shared[run.setting.model])
