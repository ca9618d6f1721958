"""The clusters of a corpus's recordings."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from jaxtyping import Float, Int

from emocluster_jax.api.evaluation import open_data_for
from emocluster_jax.api.frames import recordings_frame
from emocluster_jax.api.overview import Overview, Shown
from emocluster_jax.console import Console
from emocluster_jax.errors import InputError
from emocluster_jax.inference.model_directory import model_folder, read_model
from emocluster_jax.inference.predictor import Predictor
from emocluster_jax.inference.recordings import predict_prepared
from emocluster_jax.models.registry import NETWORKS
from emocluster_jax.records.reader import ChunkSource, Descriptions
from emocluster_jax.runtime.programs import keep_programs

if TYPE_CHECKING:
    import pandas


@dataclass(frozen=True, eq=False, repr=False)
class CorpusClusters(Shown):
    """The K clusters of a prepared split: U recordings of C chunks, 11 by default.

    Attributes:
      recordings: ids, labels, speakers, genders and durations, in the order of the records.
      chunk_clusters: (U, C) int32, the nearest centroid of each chunk, or, for models without centroids, the
        classifier's largest logit.
      clusters: (U,) int32, the cluster of most chunks; in a tie, the one with the lowest number.
      chunk_distances: (U, C) float32, Euclidean, of each chunk to its centroid, in the unit of the embeddings; None for
        models without centroids.
      centroids: (K, E) float32, in the space of the embeddings or of their principal components, or None.
    """

    recordings: Descriptions
    chunk_clusters: Int[np.ndarray, "U C"]
    clusters: Int[np.ndarray, " U"]
    chunk_distances: Float[np.ndarray, "U C"] | None
    centroids: Float[np.ndarray, "K E"] | None

    def to_frame(self) -> pandas.DataFrame:
        """`cluster`, `chunks_in_cluster` and `speaker` of the recordings, in audformat's segmented index.

        Raises:
          InputError: pandas is not installed.
        """
        columns = {
            "cluster": self.clusters,
            "chunks_in_cluster": (self.chunk_clusters == self.clusters[:, None]).sum(axis=1),
            "speaker": self.recordings.speakers,
        }
        return recordings_frame(self.recordings, columns)

    def _overview(self) -> Overview:
        chunks = np.bincount(
            self.chunk_clusters.ravel(), minlength=0 if self.centroids is None else len(self.centroids)
        )
        counts = np.bincount(self.clusters, minlength=len(chunks))
        rows = [(str(i), str(n), str(m)) for i, (n, m) in enumerate(zip(counts, chunks, strict=True))]
        return Overview(
            [f"{len(rows)} clusters of {len(self.clusters)} recordings"],
            ("cluster", "recordings", "chunks"),
            rows,
            len(rows),
        )


def clusters(
    model: Path | str,
    data_dir: Path | str,
    split: Literal["train", "validation", "test", "unlabeled"] = "train",
    *,
    fold: int | None = None,
    console: Console | None = None,
) -> CorpusClusters:
    """Assigns every chunk of a prepared split to one of the model's clusters, as `predict` does with recordings.

    They may differ from the best epoch's pseudo-labels: those came from the network before that epoch, not after it.

    Args:
      model: a model directory, or a work directory of training, of a system that clusters.
      data_dir: records prepared and normalised like the model's training data.
      fold: for data with folds, the one that the split's run tests on; None for that of the model's run, if the model
        is in its work directory. The pool is the same for all folds.
      console: shows progress and warnings; None for one that prints them.

    Raises:
      InputError: there is no model with clusters, no such data, split or fold, or the data are for another model.
    """
    keep_programs()
    console, data_dir = console or Console(), Path(data_dir)
    saved = read_model(model_folder(Path(model)))
    if not NETWORKS[saved.config.system].clusters:
        raise InputError(f"{model} is a model of {saved.config.system}, which has no clusters; give one of emocluster")
    data = open_data_for(saved, Path(model), data_dir, fold, console, pool=split == "unlabeled")
    recordings = data.describe(split)
    source, predictor = ChunkSource(data, split, saved.inputs), Predictor(saved)
    found = np.empty((len(recordings), data.preparation.features.chunks_per_utterance), np.int32)
    majority, distances = np.empty(len(recordings), np.int32), np.empty(found.shape, np.float32)
    with console.task("clusters of recordings", len(recordings), "recordings") as task:
        for row, prediction in enumerate(predict_prepared(predictor, source, range(len(recordings)))):
            assert prediction.chunk_clusters is not None and prediction.cluster is not None
            found[row], majority[row] = prediction.chunk_clusters, prediction.cluster
            if saved.centroids is not None:
                clustered = saved.clustered(prediction.chunk_embeddings)
                distances[row] = np.linalg.norm(clustered - saved.centroids[found[row]], axis=1)
            task.advance()
    return CorpusClusters(recordings, found, majority, None if saved.centroids is None else distances, saved.centroids)
