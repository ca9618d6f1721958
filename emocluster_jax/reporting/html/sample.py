"""A trained model's results for a sample of the labelled recordings."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from emocluster_jax.console import Console
from emocluster_jax.inference.model_directory import SavedModel
from emocluster_jax.inference.predictor import Predictor
from emocluster_jax.inference.recordings import predict_prepared
from emocluster_jax.records.folds import LABELED_SPLITS
from emocluster_jax.records.reader import ChunkSource, PreparedData

_SEED = 0


@dataclass(frozen=True)
class SampledRecording:
    """A recording and the model's results for it; speaker and gender are "" where unknown.

    Attributes:
      labels: known labels by name, in label units.
      predictions: by attribute of the model, in label units.
      cluster: the cluster of most chunks; None for models without clusters.
      chunks_in_cluster: how many of its chunks are in it.
      distance: from its embedding to that cluster's centroid; None for models without centroids.
    """

    id: str
    split: str
    speaker: str
    gender: str
    duration_s: float
    labels: dict[str, float]
    predictions: dict[str, float]
    cluster: int | None
    chunks_in_cluster: int
    distance: float | None

    @property
    def details(self) -> list[str]:
        """What is known of it: split, speaker, gender and duration, then its labels beside the predictions."""
        known = [self.split, self.speaker and f"speaker {self.speaker}", self.gender, f"{self.duration_s:.1f} s"]
        lines = [", ".join(filter(None, known))]
        for name in self.labels | self.predictions:
            found = (("rated", self.labels.get(name)), ("predicted", self.predictions.get(name)))
            values = ", ".join(f"{what} {value:.2f}" for what, value in found if value is not None)
            lines.append(f"{name}: {values}")
        return lines


@dataclass(frozen=True)
class Sample:
    """A sample of the labelled recordings, in the order of their splits and ids.

    Attributes:
      total: how many they were drawn from.
      embeddings: the mean over each recording's chunks of what is clustered.
      centroids: in the same space; None for models without.
    """

    recordings: tuple[SampledRecording, ...]
    total: int
    embeddings: Float[np.ndarray, "n E"]
    centroids: Float[np.ndarray, "K E"] | None


def draw_sample(data: PreparedData, model: SavedModel, size: int, console: Console) -> Sample:
    """Draws at most `size` recordings from the labelled splits, always the same ones, and runs the model on them."""
    counts = data.counts
    splits = [split for split in LABELED_SPLITS if counts.get(split)]
    places = [(split, position) for split in splits for position in range(counts[split])]
    drawn = np.sort(np.random.default_rng(_SEED).permutation(len(places))[:size])
    predictor = Predictor(model)
    recordings: list[SampledRecording] = []
    embeddings: list[np.ndarray] = []
    with console.task("embedding recordings", len(drawn), "recordings") as task:
        for split in splits:
            positions = [places[i][1] for i in drawn if places[i][0] == split]
            found = data.describe(split)
            source = ChunkSource(data, split, model.inputs)
            for position, prediction in zip(positions, predict_prepared(predictor, source, positions), strict=True):
                embedding = model.clustered(prediction.chunk_embeddings).mean(axis=0)
                embeddings.append(embedding)
                cluster, members, distance = prediction.cluster, 0, None
                if cluster is not None:
                    members = int(np.sum(prediction.chunk_clusters == cluster))
                    if model.centroids is not None:
                        distance = float(np.linalg.norm(embedding - np.asarray(model.centroids[cluster])))
                labels = zip(found.labels.names, found.labels.values[position].tolist(), strict=True)
                recording = SampledRecording(
                    id=found.ids[position],
                    split=split,
                    speaker=found.speakers[position],
                    gender=found.genders[position],
                    duration_s=float(found.durations_s[position]),
                    labels={name: label for name, label in labels if np.isfinite(label)},
                    predictions=prediction.attributes,
                    cluster=cluster,
                    chunks_in_cluster=members,
                    distance=distance,
                )
                recordings.append(recording)
                task.advance()
    stacked = np.stack(embeddings) if embeddings else np.zeros((0, 0), np.float32)
    return Sample(tuple(recordings), len(places), stacked, model.centroids)
