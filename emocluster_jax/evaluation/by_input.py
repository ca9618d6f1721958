"""What each input of a model is worth: its scores from one of them alone, with the others hidden as if missing."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool

from emocluster_jax.console import Console
from emocluster_jax.corpora.inputs import names_of
from emocluster_jax.evaluation.metrics import Scores, score_sentences, sentence_attributes
from emocluster_jax.feed.split import AUDIO, OneInput, Split, mask_name, rows_on_host
from emocluster_jax.inference.forward import chunk_attributes, make_forward
from emocluster_jax.inference.model_directory import SavedModel
from emocluster_jax.runtime import parallel


def scores_alone(model: SavedModel, split: Split, console: Console) -> dict[str, dict[str, Scores]]:
    """Scores of a split's sentences by attribute and input, of those sentences that have the input."""
    names = model.config.attributes
    if not model.inputs:
        return {}
    found: dict[str, dict[str, Scores]] = {name: {} for name in names}
    variables = parallel.replicate(model.variables)
    for given in (AUDIO, *names_of(model.inputs)):
        with console.task(f"evaluating with {given} alone", split.chunk_count, "chunks") as task:
            outputs = make_forward(model.config)(variables, OneInput.of(split, given), task.advance)
        predictions = sentence_attributes(chunk_attributes(outputs, split), model.label_mean, model.label_std)
        truth = np.where(_has(split, given)[:, None], split.labels.of(names), np.float32(np.nan))
        for name, scores in score_sentences(truth, predictions, names).items():
            found[name][given] = scores
    return found


def _has(split: Split, name: str) -> Bool[np.ndarray, " utterances"]:
    """Which sentences have an input."""
    if name == AUDIO:
        return np.ones(split.utterances, bool)
    mask = mask_name(name)
    rows = np.concatenate([block[mask] for block in rows_on_host(split, [mask])], axis=1)
    return parallel.collect(parallel.deal(rows), split.utterances) > 0
