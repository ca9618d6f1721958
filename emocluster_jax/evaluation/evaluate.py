"""The evaluation of a model directory on a prepared split."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import jax
import numpy as np
from jaxtyping import Float, Int

from emocluster_jax.config import Engine
from emocluster_jax.console import Console
from emocluster_jax.errors import InputError
from emocluster_jax.evaluation.metrics import Scores, score_sentences, sentence_attributes
from emocluster_jax.feed.split import Split
from emocluster_jax.inference.engine import OnnxNetwork, runs_on_onnx
from emocluster_jax.inference.forward import Outputs, chunk_attributes, make_forward
from emocluster_jax.inference.model_directory import SavedModel
from emocluster_jax.runtime import parallel

_NAMES_SHOWN = 5


@dataclass(frozen=True)
class EmbeddingSample:
    """The embeddings of the chunks of some sentences of a split, and the sentences' positions, ascending."""

    sentences: Int[np.ndarray, " n"]
    embeddings: Float[np.ndarray, "n C E"]


@dataclass(frozen=True)
class Evaluation:
    """Predictions and true labels (NaN where there is none) of sentences, in label units, and the scores by attribute.

    The `sample` has embeddings of some sentences, if requested.
    """

    attributes: tuple[str, ...]
    truth: Float[np.ndarray, "utterances A"]
    predictions: Float[np.ndarray, "utterances A"]
    scores: dict[str, Scores]
    sample: EmbeddingSample | None = None


def evaluate_split(
    model: SavedModel,
    split: Split,
    recording_ids: Callable[[Int[np.ndarray, " n"]], list[str]],
    console: Console,
    sample: int = 0,
    engine: Engine = "auto",
) -> Evaluation:
    """Predicts every sentence of a split (mean over its chunks) and scores the predictions.

    Predictions that are not finite are left out of the scores, with a warning that names their recordings, for which
    `recording_ids` gives ids by their places in the split. With a `sample`, the embeddings of about so many sentences,
    spread evenly over the split, are kept. The `engine` is as in `load_model`.

    Raises InputError if the engine is not installed, cannot run the model, or there are several devices for it.
    """
    with console.task("evaluating", split.chunk_count, "chunks") as task:
        if runs_on_onnx(engine, model):
            if jax.device_count() > 1:
                raise InputError("`engine=onnx` runs in one process that has one device; give `engine=jax`")
            outputs = OnnxNetwork(model).of_split(split, task.advance)
        else:
            outputs = make_forward(model.config)(parallel.replicate(model.variables), split, task.advance)
        predictions = sentence_attributes(chunk_attributes(outputs, split), model.label_mean, model.label_std)
    names = model.config.attributes
    truth = split.labels.of(names)
    bad = np.flatnonzero(~np.isfinite(predictions).all(axis=1))
    if len(bad) and parallel.is_primary():
        ids = recording_ids(bad[:_NAMES_SHOWN])
        console.warn(
            f"predictions of {len(bad)} of {len(predictions)} recordings are NaN or infinite, and left out of the "
            f"scores: {', '.join(name if name.isprintable() else repr(name) for name in ids)}"
            f"{', ...' if len(bad) > len(ids) else ''}"
        )
    scores = score_sentences(truth, predictions, names)
    return Evaluation(names, truth, predictions, scores, _sample(outputs, split, sample) if sample else None)


def _sample(outputs: Outputs, split: Split, size: int) -> EmbeddingSample:
    """Sentences at equal distances in each device's share."""
    share = split.utterances_per_device
    devices, _, width = outputs.embeddings.shape
    taken = np.arange(0, share, max(split.utterances // size, 1))
    rows = np.asarray(outputs.embeddings).reshape(devices, share, split.chunks_per_utterance, width)[:, taken]
    positions = (share * np.arange(jax.device_count())[:, None] + taken).ravel()
    real = positions < split.utterances  # the rest is padding
    return EmbeddingSample(positions[real], parallel.collect(parallel.deal(rows), len(positions))[real])
