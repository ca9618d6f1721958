"""What each input of a model is worth: scores and clusters from one of them alone, the others hidden as if missing."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from emocluster_jax.clustering.blocks import fold_blocks
from emocluster_jax.clustering.embedding_transform import BLOCK_ROWS, EmbeddingTransform, transform
from emocluster_jax.clustering.kmeans import assign
from emocluster_jax.console import Console
from emocluster_jax.corpora.inputs import names_of
from emocluster_jax.evaluation.metrics import Scores, score_sentences, sentence_attributes
from emocluster_jax.feed.split import AUDIO, OneInput, Split, mask_name, rows_on_host
from emocluster_jax.inference.forward import Outputs, chunk_attributes, make_forward
from emocluster_jax.inference.model_directory import SavedModel
from emocluster_jax.runtime import parallel


class ClustersAlone(NamedTuple):
    """The clusters that one input tells of a split.

    Attributes:
      recordings: the places in the split of those that have the input, ascending.
      clusters: of their chunks, grouped by recording.
    """

    recordings: Int[np.ndarray, " n"]
    clusters: Int[np.ndarray, " chunks"]


def scores_alone(model: SavedModel, split: Split, console: Console) -> dict[str, dict[str, Scores]]:
    """Scores of a split's sentences by attribute and input, of those sentences that have the input."""
    names = model.config.attributes
    if not model.inputs:
        return {}
    found: dict[str, dict[str, Scores]] = {name: {} for name in names}
    for given, outputs in _outputs_alone(model, split, "evaluating", console):
        predictions = sentence_attributes(chunk_attributes(outputs, split), model.label_mean, model.label_std)
        truth = np.where(_has(split, given)[:, None], split.labels.of(names), np.float32(np.nan))
        for name, scores in score_sentences(truth, predictions, names).items():
            found[name][given] = scores
    return found


def clusters_alone(model: SavedModel, split: Split, console: Console) -> dict[str, ClustersAlone]:
    """By input, the nearest centroids of the chunks of those recordings of a split that have the input.

    Inputs that no recording has are left out; empty for a model of audio alone, or without centroids.
    """
    if not model.inputs or model.centroids is None:
        return {}
    found = {}
    program, centroids = _nearest_program(model.clustering.unit_length), (model.transform, model.centroids)
    for given, outputs in _outputs_alone(model, split, "clustering", console):
        nearest = parallel.collect(program((), outputs.embeddings, centroids), split.chunk_count)
        has = _has(split, given)
        if has.any():
            found[given] = ClustersAlone(np.flatnonzero(has), nearest.reshape(split.utterances, -1)[has].ravel())
    return found


def _outputs_alone(model: SavedModel, split: Split, doing: str, console: Console) -> Iterator[tuple[str, Outputs]]:
    """By input, a model's outputs for a split of which it is given this one alone."""
    variables = parallel.replicate(model.variables)
    for given in (AUDIO, *names_of(model.inputs)):
        with console.task(f"{doing} with {given} alone", split.chunk_count, "chunks") as task:
            outputs = make_forward(model.config)(variables, OneInput.of(split, given), task.advance)
        yield given, outputs


@cache
def _nearest_program(unit_length: bool) -> parallel.Program:
    """A program ((), embeddings, (their transform, centroids)) -> the nearest centroid of each."""

    def run(
        _: tuple[()],
        embeddings: Float[Array, "n E"],
        known: tuple[EmbeddingTransform | None, Float[Array, "K clustered"]],
    ) -> Int[Array, " n"]:
        fitted, centroids = known

        def step(found: Array, start: Array, rows: Array, fresh: Array) -> Array:
            nearest, _ = assign(transform(rows, fitted, l2_normalize=unit_length), centroids)
            return lax.dynamic_update_slice_in_dim(found, nearest, start, 0)

        return fold_blocks(step, jnp.zeros(len(embeddings), jnp.int32), embeddings, None, BLOCK_ROWS)

    return parallel.parallel(run)


def _has(split: Split, name: str) -> Bool[np.ndarray, " utterances"]:
    """Which sentences have an input."""
    if name == AUDIO:
        return np.ones(split.utterances, bool)
    mask = mask_name(name)
    rows = np.concatenate([block[mask] for block in rows_on_host(split, [mask])], axis=1)
    return parallel.collect(parallel.deal(rows), split.utterances) > 0
