"""Semi-supervised speech emotion recognition: DeepEmoCluster in JAX.

import emocluster_jax

predictor = emocluster_jax.load_model("model")
prediction = predictor(signal, sampling_rate)
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from emocluster_jax.inference import Prediction, Predictor, load_model

__version__ = "0.1.0"
__all__ = ["Prediction", "Predictor", "load_model"]


def __getattr__(name: str) -> Any:
    # Imported on first use: commands must be able to show their help without loading JAX or librosa.
    if name in __all__:
        return getattr(importlib.import_module("emocluster_jax.inference"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
