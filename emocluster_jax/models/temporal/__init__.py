"""Networks over a recording's chunks: `TEMPORAL` in the module that `--temporal` names is a Flax module.

It takes the shared layer's outputs (recordings, chunks, E) and `train`, and returns as many numbers. It is made of
(config, axis_name), as every network is, and may use "dropout" keys and "batch_stats".
"""

from __future__ import annotations

import importlib

import flax.linen as nn

from emocluster_jax.config import ModelConfig


def temporal_of(config: ModelConfig, axis_name: str | None) -> nn.Module | None:
    """The temporal network that `config` describes, called "temporal"; None without one."""
    if config.temporal == "none":
        return None
    module = importlib.import_module(f"{__name__}.{config.temporal}")
    return module.TEMPORAL(config, axis_name, name="temporal")
