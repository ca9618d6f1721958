from __future__ import annotations

import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from compile_flags import flags_of_devices
from emocluster_jax.config import Engine
from emocluster_jax.console import Console
from emocluster_jax.corpora.labels import LabelColumns
from emocluster_jax.evaluation.evaluate import Evaluation, evaluate_split
from emocluster_jax.feed.split import AUDIO, place
from emocluster_jax.inference.model_directory import SavedModel
from small_models import small_model
from watched_console import WatchedConsole


def evaluated(model: SavedModel, utterances: int, console: Console, engine: Engine = "auto") -> Evaluation:
    random = np.random.default_rng(utterances)
    chunks = random.normal(0, 1.5, (utterances, 11, 62, 128)).clip(-3, 3).astype(np.float16)
    labels = LabelColumns(("arousal", "valence"), random.normal(3, 1, (utterances, 2)).astype(np.float32))
    split = place({AUDIO: chunks}, labels, utterances)
    return evaluate_split(model, split, lambda rows: [], console, sample=5, engine=engine)


@pytest.mark.parametrize("utterances", [3, 16, 37])
def test_both_engines_evaluate_alike(utterances: int) -> None:
    for package in ("onnx", "onnxruntime"):
        pytest.importorskip(package, reason=f'{package} is not installed; pip install "emocluster_jax[onnx]"')
    consoles = WatchedConsole(), WatchedConsole()
    evaluate = partial(evaluated, small_model(("arousal", "valence")), utterances)

    own, other = (evaluate(console, engine) for console, engine in zip(consoles, ("jax", "onnx"), strict=True))

    # In label units, as for predictions: float32 sums in another order.
    np.testing.assert_allclose(other.predictions, own.predictions, rtol=0, atol=1e-4)
    assert own.sample is not None and other.sample is not None
    np.testing.assert_array_equal(other.sample.sentences, own.sample.sentences)
    np.testing.assert_allclose(other.sample.embeddings, own.sample.embeddings, rtol=0, atol=1e-4)
    assert np.ptp(own.predictions, axis=0).min() > 1e-2  # or it would say little
    for console in consoles:
        assert console.tasks[-1].done == utterances * 11


def test_onnx_runtime_is_for_one_device(tmp_path: Path) -> None:
    code = """
from emocluster_jax.errors import InputError
from test_evaluate import evaluated
from watched_console import WatchedConsole
from small_models import small_model

evaluated(small_model(("arousal", "valence")), 2, WatchedConsole())  # by JAX
try:
    evaluated(small_model(("arousal", "valence")), 2, WatchedConsole(), "onnx")
except InputError as error:
    print(error)
"""
    folders = os.pathsep.join([str(Path(__file__).parent), str(Path(__file__).parents[1])])
    environment = os.environ | {"XLA_FLAGS": flags_of_devices(2), "PYTHONPATH": folders}
    done = subprocess.run([sys.executable, "-c", code], env=environment, text=True, capture_output=True, check=True)
    assert done.stdout == "`engine=onnx` runs in one process that has one device; give `engine=jax`\n"
