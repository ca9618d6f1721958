"""A grid with where and how it is run: what each run's folder, settings and command line are."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from emocluster_jax.config import SystemName, TrainConfig
from emocluster_jax.experiment.grid import Grid, Run, run_arguments, run_config


@dataclass(frozen=True)
class Shared:
    """What all runs of a system share.

    Attributes:
      config: the settings; the grid's own are replaced.
      arguments: what gives them as arguments of `launch.train`, and others that say how to train.
    """

    config: TrainConfig
    arguments: tuple[str, ...]


@dataclass(frozen=True)
class Plan:
    """What an experiment is about.

    Attributes:
      grid: its runs.
      shared: by system: some settings are of one system alone.
      data_dir: prepared records.
      data: what runs on them may know them by (`Preparation.fingerprints`).
      workdir: takes the runs' work directories and the results.
    """

    grid: Grid
    shared: Mapping[SystemName, Shared]
    data_dir: Path
    data: tuple[str, ...]
    workdir: Path

    def folder(self, run: Run) -> Path:
        """The work directory of a run."""
        return self.workdir / "runs" / run.name

    def config(self, run: Run) -> TrainConfig:
        """All settings of a run."""
        return run_config(run, self.shared[run.setting.model].config)

    def command(self, run: Run) -> list[str]:
        """What trains a run, or goes on with it."""
        where = ["--data-dir", str(self.data_dir), "--workdir", str(self.folder(run)), "--resume"]
        # Where Slurm or the like started the shards of an experiment, their trainings are not to find one another.
        alone = ["--num-processes", "1"]
        arguments = self.shared[run.setting.model].arguments
        return [sys.executable, "-m", "launch.train", *where, *alone, *arguments, *run_arguments(run)]
