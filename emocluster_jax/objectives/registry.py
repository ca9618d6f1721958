"""What each system minimises: `stages` in the module of this package that has the name `--model` knows it by."""

from __future__ import annotations

import importlib

from emocluster_jax.config import TrainConfig
from emocluster_jax.models.registry import network_of
from emocluster_jax.objectives.stage import Stages


def stages_of(config: TrainConfig, axis_name: str | None = None) -> Stages:
    """The stages that `config` describes.

    Args:
      config: names the system.
      axis_name: the mapped axis that shares a batch; None on a single device.
    """
    objectives = importlib.import_module(f"emocluster_jax.objectives.{config.model.system}")
    return objectives.stages(network_of(config.model, axis_name), config, axis_name)
