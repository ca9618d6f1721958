"""A trained model on recordings: attributes in label units, the embedding, and the cluster for models that have some.

    predictor = load_model(Path("model"))
    prediction = predictor(signal, sampling_rate)
    prediction.attributes["arousal"], prediction.embedding, prediction.cluster

For many files, with several models at once, see `inference.recordings`.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any

import jax
import numpy as np
from jaxtyping import Float, Int, Shaped
from numpy.typing import DTypeLike

from emocluster_jax.config import AudioConfig, Engine, Features
from emocluster_jax.corpora.inputs import FurtherInputs, names_of
from emocluster_jax.errors import InputError, RecordingError
from emocluster_jax.feed.split import AUDIO, masked
from emocluster_jax.inference.engine import JaxNetwork, OnnxNetwork, check_engine, runs_on_onnx
from emocluster_jax.inference.forward import Outputs
from emocluster_jax.inference.model_directory import SavedModel, model_folder, read_model
from emocluster_jax.models.encoder import DENSE_WIDTH, scaled_width
from emocluster_jax.models.registry import NETWORKS
from emocluster_jax.preprocessing.audio import Condition
from emocluster_jax.preprocessing.chunks import chunk_parts, frames_of_parts, mel_chunks
from emocluster_jax.preprocessing.further_inputs import check_durations, checked_inputs, input_arrays
from emocluster_jax.preprocessing.normalization import Statistics
from emocluster_jax.preprocessing.quality import quality_of, silent_reason
from emocluster_jax.preprocessing.sources import as_source, reader
from emocluster_jax.runtime.parallel import check_not_forked
from emocluster_jax.runtime.programs import keep_programs

Further = Mapping[str, Float[np.ndarray, "recordings ..."]]
"""Further inputs by name, each (recordings, *`FurtherInput.shape`), with NaN where a recording's is missing."""
NO_CLUSTER = -1
"""The cluster of what is silent."""


@dataclass(frozen=True, eq=False)
class Prediction:
    """What a model says of one recording, cut into C chunks.

    Attributes:
      attributes: each of the model's attributes in label units: the mean over the chunks.
      embedding: float32, the mean over the chunks of what represents them. In emocluster that is what K-means clusters:
        the classifier's hidden layer before its ReLU (and before principal components or unit length, where the
        clustering has them); in the other systems the layer that the regressor reads.
      cluster: the cluster of most chunks; of several, the one of the lowest number. None for systems without clusters.
      chunk_attributes: float32 in label units, in the order of `attributes`.
      chunk_embeddings: float32.
      chunk_clusters: int32: the nearest centroid, or the classifier's largest logit for models without centroids.
      silent: whether all chunks are silent. Then no network has seen them: attributes and embeddings are NaN, clusters
        `NO_CLUSTER`.
    """

    attributes: dict[str, float]
    embedding: Float[np.ndarray, " E"]
    cluster: int | None
    chunk_attributes: Float[np.ndarray, "C A"]
    chunk_embeddings: Float[np.ndarray, "C E"]
    chunk_clusters: Int[np.ndarray, " C"] | None
    silent: bool = False

    def __repr__(self) -> str:
        found = [f"{name} {value:z.3f}" for name, value in self.attributes.items()]
        found += [] if self.cluster is None else [f"cluster {self.cluster}"]
        of = f"{len(self.chunk_embeddings)} chunks, embedding of {len(self.embedding)} numbers"
        return f"Prediction: {'silent' if self.silent else ', '.join(found)} ({of})"

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> Shaped[np.ndarray, " A"]:
        """`np.asarray(prediction)` is its attributes, in label units and in the model's order."""
        return np.array(list(self.attributes.values()), np.float32 if dtype is None else dtype)


class Predictor:
    """A model that is ready to predict, by ONNX Runtime or on JAX's default device: see `engine`.

    JAX compiles each shape of input once per process; a call on a signal always has the same.

    Attributes:
      attributes: names of the attributes that the model predicts.
      features: how recordings become chunks.
      statistics: what their features are normalised with.
      audio: how an audio file, or a signal's channels, become one signal.
      silence: the prediction of what is silent.
      title: what messages call it: its directory.
      knows_labels: whether it was trained on labels; otherwise its attributes are NaN.
      inputs: the further inputs that it reads.
    """

    def __init__(self, model: SavedModel, title: str = "a model", engine: Engine = "auto") -> None:
        check_engine(engine, model)
        self.title = title
        self._engine: Engine = engine
        self.attributes: tuple[str, ...] = model.config.attributes
        self.features: Features = model.features
        self.audio: AudioConfig = model.audio
        self.statistics = Statistics(model.feature_mean, model.feature_std)
        self.knows_labels: bool = model.knows_labels
        self.inputs: FurtherInputs = model.inputs
        self._label_mean, self._label_std = model.label_mean, model.label_std
        self._model = dataclasses.replace(model, variables=jax.device_get(model.variables))
        count, width = self.features.chunks_per_utterance, scaled_width(DENSE_WIDTH, model.config)
        has_clusters = NETWORKS[model.config.system].clusters
        self.silence = Prediction(
            attributes=dict.fromkeys(self.attributes, math.nan),
            embedding=np.full(width, np.nan, np.float32),
            cluster=NO_CLUSTER if has_clusters else None,
            chunk_attributes=np.full((count, len(self.attributes)), np.nan, np.float32),
            chunk_embeddings=np.full((count, width), np.nan, np.float32),
            chunk_clusters=np.full(count, NO_CLUSTER, np.int32) if has_clusters else None,
            silent=True,
        )

    def __repr__(self) -> str:
        system, clusters = self._model.config.system, self._model.config.clusters
        clustering = f" with {clusters} clusters" if NETWORKS[system].clusters else ""
        labels = ", ".join(self.attributes) if self.knows_labels else "no attributes"
        read = ", ".join([self.features.summary, *names_of(self.inputs)])
        return f"Predictor of {self.title}: {labels}; {system}{clustering}, reads {read}"

    @cached_property
    def _network(self) -> JaxNetwork | OnnxNetwork:
        return OnnxNetwork(self._model) if runs_on_onnx(self._engine, self._model) else JaxNetwork(self._model)

    @property
    def on_cpu(self) -> bool:
        """Whether the network is computed on a CPU, by the threads that call it."""
        return isinstance(self._network, OnnxNetwork) or jax.default_backend() == "cpu"

    def __getstate__(self) -> dict[str, Any]:
        # Arrays on a device cannot be sent to other processes, which may have no device at all, nor can sessions.
        return {name: value for name, value in vars(self).items() if name != "_network"}

    def __call__(
        self,
        signal: Shaped[np.ndarray, " samples"] | Shaped[np.ndarray, "rows columns"],
        sampling_rate: float,
        inputs: Mapping[str, Shaped[np.ndarray, " ..."] | None] = MappingProxyType({}),
    ) -> Prediction:
        """Predicts one recording.

        Args:
          signal: samples of any scale, (samples,) or (channels, samples); divided by their peak. Integers are PCM:
            `preprocessing.audio.to_mono_resampled`. For a model of given features, frames (frames, dimensions).
          sampling_rate: in Hz; any. Of frames: that of the model's features.
          inputs: by name, the vector or the frames (frames, numbers) of each further input that the model reads, or
            None where it is missing, which the network is told as in training.

        Raises:
          InputError: `inputs` has other names than the model's.
          RecordingError: no samples, silent (or all of its chunks are), not finite, or of an absurd rate; frames of
            other dimensions or another rate than the model's; a further input that is not finite, has another length,
            or frames that do not last as long as the recording.
        """
        self._check_named(inputs)
        found = checked_inputs(inputs, self.inputs)
        source = as_source(signal, sampling_rate, self.features, self.audio)
        parts = chunk_parts(reader(source), 0, len(source), self.features)
        if quality_of(parts, self.features, Condition()).is_silent:
            raise RecordingError(silent_reason(self.features))
        chunks = mel_chunks(frames_of_parts(parts, self.features), self.features, self.statistics)
        check_durations(found, self.inputs, len(source) / self.features.source_rate)
        arrays = input_arrays(found, self.inputs, self.features, 0.0, len(source))
        return self.predict_chunks(chunks, {name: array[None] for name, array in arrays.items()})[0]

    def _check_named(self, given: Any) -> None:
        names, found = names_of(self.inputs), [*given] if isinstance(given, Mapping) else []
        if set(found) != set(names) or not isinstance(given, Mapping):
            raise InputError(
                f"{self.title} reads {', '.join(names) or 'nothing'} besides audio, and `inputs` has "
                f"{', '.join(map(str, found)) or 'nothing'}; give by name the vector or the frames of each, or None "
                "where it is missing"
            )

    def predict_chunks(
        self, chunks: Float[np.ndarray, "n frames mel"], further: Further = MappingProxyType({})
    ) -> list[Prediction]:
        """Predicts recordings by their normalised chunks, one recording after another; compiled per number of chunks.

        `further` are the further inputs that the model reads, of the same recordings; NaN where one is missing.
        """
        return self.predictions(self.forward(chunks, further))

    def forward(self, chunks: Float[np.ndarray, "n frames mel"], further: Further = MappingProxyType({})) -> Outputs:
        """Starts the network on inputs as of `predict_chunks`; returns without waiting for the device if that is JAX's.

        Raises InputError in a process that was forked from one in which JAX had started.
        """
        check_not_forked()
        audio = chunks.reshape(-1, self.features.chunks_per_utterance, *chunks.shape[1:])
        inputs = {AUDIO: audio} | masked({given.name: further[given.name] for given in self.inputs})
        return self._network(inputs)

    def predictions(self, outputs: Outputs) -> list[Prediction]:
        """What the network's outputs for n chunks say of each recording; waits for the device."""
        count = self.features.chunks_per_utterance
        # Without clusters the tree has a leaf less.
        embeddings, attributes, clusters = jax.tree.map(
            lambda value: np.asarray(value).reshape(-1, count, *value.shape[1:]), outputs
        )
        attributes = attributes * self._label_std + self._label_mean
        return [
            Prediction(
                attributes=dict(zip(self.attributes, attributes[i].mean(0, np.float64).tolist(), strict=True)),
                embedding=embeddings[i].mean(axis=0),
                cluster=None if clusters is None else int(np.bincount(clusters[i]).argmax()),
                # Copies: a view would keep the whole batch in memory for as long as one prediction is kept.
                chunk_attributes=attributes[i].copy(),
                chunk_embeddings=embeddings[i].copy(),
                chunk_clusters=None if clusters is None else clusters[i].copy(),
            )
            for i in range(len(attributes))
        ]


def load_model(directory: Path | str, engine: Engine = "auto") -> Predictor:
    """Loads a model for prediction from a model directory, or from a training's work directory, which has one.

    Args:
      engine: what computes the network: `jax`, on its default device; `onnx`, ONNX Runtime on the CPU (extra `onnx`);
        or `auto`, ONNX Runtime where it is installed and can run the model, and JAX has no other device than a CPU.
        Predictions differ by less than 1e-4 in label units.

    Raises:
      InputError: it is neither, or damaged, or of another format version; the engine is not installed or cannot run the
        model; or this process was forked from one in which JAX had started.
    """
    check_not_forked()
    keep_programs()
    return Predictor(read_model(model_folder(Path(directory))), str(directory), engine)
