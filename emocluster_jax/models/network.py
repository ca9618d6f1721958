"""What the project needs to know of a network, whichever it is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import flax.linen as nn


@dataclass(frozen=True)
class Network:
    """One of the networks that can be trained.

    Attributes:
      module: (config, axis_name) -> a module that takes chunks (n, time, mel) and `train`. Its output has at least
        `attributes` (n, A), in z-normalised label units, and `embeddings` (n, E), which represent the chunks for users
        and are what K-means clusters; E is the (scaled) width of the dense layers.
      title: its name in tables and on pages.
      clusters: whether it has a cluster classifier: then the output has `cluster_logits` (n, K) as well, and each stage
        begins with K-means and trains on its clusters as pseudo-labels.
    """

    module: Callable[..., nn.Module]
    title: str
    clusters: bool = False
