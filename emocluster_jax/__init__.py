"""Semi-supervised speech emotion recognition: DeepEmoCluster in JAX.

```python
import emocluster_jax

predictor = emocluster_jax.load_model("run/model")
prediction = predictor(signal, sampling_rate)
```

From a corpus to such a model: `prepare`, `fit`, `evaluate`, `calibrate`, `predict`, `clusters`; docs/python.md has an
example. What is wrong with a request raises `InputError`: its one line names settings, such as `clusters`, which
commands print as options (`--clusters`). A signal that a predictor cannot use raises `RecordingError`.
"""

from __future__ import annotations

import contextlib
import importlib
from typing import TYPE_CHECKING, Any

from emocluster_jax.errors import InputError, RecordingError
from emocluster_jax.storage.caches import place_caches

if TYPE_CHECKING:
    from emocluster_jax.api.calibration import calibrate
    from emocluster_jax.api.clusters import clusters
    from emocluster_jax.api.evaluation import evaluate
    from emocluster_jax.api.prediction import predict
    from emocluster_jax.api.prediction_tables import read_predictions
    from emocluster_jax.api.preparation import prepare
    from emocluster_jax.api.training import fit
    from emocluster_jax.config import ModelConfig, TrainConfig, presets
    from emocluster_jax.console import Console
    from emocluster_jax.inference.predictor import Prediction, Predictor, load_model
    from emocluster_jax.inference.recordings import Recording

__version__ = "0.1.0"
__all__ = [
    "Console",
    "InputError",
    "ModelConfig",
    "Prediction",
    "Predictor",
    "Recording",
    "RecordingError",
    "TrainConfig",
    "calibrate",
    "clusters",
    "evaluate",
    "fit",
    "load_model",
    "predict",
    "prepare",
    "presets",
    "read_predictions",
]

# Before anything imports librosa or JAX. Where there is no place for caches at all, commands say so in one line.
with contextlib.suppress(InputError):
    place_caches()

_MODULES = {
    "calibrate": "api.calibration",
    "clusters": "api.clusters",
    "evaluate": "api.evaluation",
    "predict": "api.prediction",
    "prepare": "api.preparation",
    "read_predictions": "api.prediction_tables",
    "fit": "api.training",
    "Recording": "inference.recordings",
    "presets": "config",
    "ModelConfig": "config",
    "TrainConfig": "config",
    "Console": "console",
    "Prediction": "inference.predictor",
    "Predictor": "inference.predictor",
    "load_model": "inference.predictor",
}


def __getattr__(name: str) -> Any:
    # Imported on first use: commands must be able to show their help without loading JAX or librosa.
    if name in _MODULES:
        return getattr(importlib.import_module(f"emocluster_jax.{_MODULES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
