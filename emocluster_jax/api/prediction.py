"""What models predict for recordings, or for windows of them, as arrays."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Bool, Float, Int
from threadpoolctl import threadpool_limits

from emocluster_jax.api.frames import segmented_frame
from emocluster_jax.api.overview import ROWS, Overview, Shown
from emocluster_jax.api.requests import PredictionSettings, asked_by
from emocluster_jax.config import AudioConfig, Engine, GivenFeatures, channel_number
from emocluster_jax.console import Console
from emocluster_jax.corpora.audio_files import recording_suffixes
from emocluster_jax.corpora.inputs import names_of
from emocluster_jax.errors import InputError
from emocluster_jax.inference.input_recordings import find_recordings, with_inputs
from emocluster_jax.inference.predictor import Predictor, load_model
from emocluster_jax.inference.recordings import Recording, Skipped, inputs_of, predict_recordings
from emocluster_jax.preprocessing.quality import Quality

if TYPE_CHECKING:
    import pandas

_OfRow = tuple[list[float], Float[np.ndarray, " E"] | None, int | None, bool]
"""Of one row and model: attributes, the embedding if it is kept, the cluster, and whether the row is silent."""


@dataclass(frozen=True, eq=False)
class ModelPredictions:
    """What one model predicts for n recordings or windows.

    Attributes:
      names: of its A attributes.
      attributes: in label units, (n, A) float64; NaN where a row is silent.
      embeddings: (n, E) float32, NaN where a row is silent; None where they were not asked for.
      clusters: (n,) int32, the cluster of most chunks, -1 where a row is silent; None for systems without clusters.
      silent: (n,), whether all chunks of a row are silent, which the model does not see.
    """

    names: tuple[str, ...]
    attributes: Float[np.ndarray, "n A"]
    embeddings: Float[np.ndarray, "n E"] | None
    clusters: Int[np.ndarray, " n"] | None
    silent: Bool[np.ndarray, " n"]

    def __repr__(self) -> str:
        embeddings = "" if self.embeddings is None else f", embeddings of {self.embeddings.shape[1]} numbers"
        clusters = "" if self.clusters is None else ", clusters"
        return f"ModelPredictions of {len(self.attributes)} rows: {', '.join(self.names)}{embeddings}{clusters}"


@dataclass(frozen=True, eq=False, repr=False)
class Predictions(Shown):
    """What models predict: a row per recording (a file or a segment of one), or per window of one.

    Attributes:
      files: names of the n rows' files.
      starts_s: where each row begins, in seconds from its file's beginning, (n,) float64.
      ends_s: where it ends, (n,) float64.
      models: one entry per model, in the given order.
      skipped: recordings that could not be used.
      quality: the fields of `preprocessing.quality.Quality`, (n,) float64 each, as the first model reads them.
      noticed: the number of recordings by what was noticed of them (`preprocessing.quality.NOTICES`).
    """

    files: tuple[str, ...]
    starts_s: Float[np.ndarray, " n"]
    ends_s: Float[np.ndarray, " n"]
    models: tuple[ModelPredictions, ...]
    skipped: tuple[Skipped, ...]
    quality: dict[str, Float[np.ndarray, " n"]]
    noticed: dict[str, int]

    @property
    def attributes(self) -> dict[str, Float[np.ndarray, " n"]]:
        """The attributes of all models by name, in label units, (n,) each."""
        return {
            name: values for model in self.models for name, values in zip(model.names, model.attributes.T, strict=True)
        }

    def to_frame(self, *, quality: bool = False) -> pandas.DataFrame:
        """The attributes, in label units, in audformat's segmented index (file, start, end).

        A single model's clusters, if it has any, are the column `cluster`. With `quality` its columns follow.

        Raises:
          InputError: pandas is not installed.
        """
        columns = self._columns() | (self.quality if quality else {})
        return segmented_frame(self.files, self.starts_s, self.ends_s, columns)

    def _columns(self) -> dict[str, np.ndarray]:
        columns: dict[str, np.ndarray] = dict(self.attributes)
        if len(self.models) == 1 and self.models[0].clusters is not None:
            columns["cluster"] = self.models[0].clusters
        return columns

    def _overview(self) -> Overview:
        skipped = f"; {len(self.skipped)} left out (`skipped`)" if self.skipped else ""
        columns = {"start (s)": self.starts_s, "end (s)": self.ends_s, **self._columns()}
        shown = [
            [f"{value:z.3f}" if isinstance(value, float) else str(value) for value in column[:ROWS].tolist()]
            for column in columns.values()
        ]
        line = f"Predictions of {len(set(self.files))} files, {len(self.files)} rows{skipped}"
        rows = list(zip(self.files[:ROWS], *shown, strict=True))
        return Overview([line], ["file", *columns], rows, len(self.files))


@dataclass(frozen=True)
class PredictRequest(PredictionSettings):
    """Which models predict which recordings."""

    models: Predictor | Path | str | Sequence[Predictor | Path | str]
    """Model directories, work directories of training, or what `load_model` made of them, with the engine given
    there."""
    recordings: Path | str | Recording | Sequence[Path | str | Recording]
    """Files, and folders that are searched with their subfolders; audio of any format, rate and number of channels. A
    table (.csv, .tsv) names files in its column `file`, segments of them in `start` and `end`, and the files of further
    inputs in `input:NAME`. A `Recording` has a name of its own, and may be a segment."""
    inputs: Mapping[str, Path | str] = field(default_factory=dict, kw_only=True)
    """By name, folders with the files of further inputs that the models read, where no table names them: a .npy file
    for each recording, called as it is but for the suffix. A recording without one is predicted without that input."""
    embeddings: bool = field(default=True, kw_only=True)
    """Keep the embeddings, 1 KB per row and model."""


@asked_by(PredictRequest)
def predict(request: PredictRequest) -> Predictions:
    """Predicts recordings with one or several models, which share the decoding.

    The arguments are the fields of `PredictRequest`. All batches have the same shape, whatever the recordings'
    durations, so a network is compiled once.

    Raises:
      InputError: what is wrong with the request, or no recording can be used.
    """
    console, models = request.console or Console(), request.models
    given = [models] if isinstance(models, Predictor | Path | str) else list(models)
    engine: Engine = request.engine
    if engine != "auto" and any(isinstance(model, Predictor) for model in given):
        raise InputError("`engine` is given, and models that are loaded have theirs; give it to `load_model`")
    predictors = [model if isinstance(model, Predictor) else load_model(model, engine) for model in given]
    if not predictors:
        raise InputError("no model is given; give at least one")
    _check_distinct_attributes(predictors)
    for predictor in predictors:
        if not predictor.knows_labels:
            console.warn(
                f"{predictor.title} was trained without labels: it gives embeddings and clusters, but no "
                f"{' or '.join(predictor.attributes)}"
            )
    suffixes = recording_suffixes(predictors[0].features)
    with console.showing_log():
        found = _recordings(request, suffixes)
    read = names_of(inputs_of(predictors))
    if unread := ", ".join(name for name in request.inputs if name not in read):
        raise InputError(
            f"`inputs` gives {unread}, and the models read {', '.join(read) or 'nothing'} besides audio; leave it out"
        )
    found = with_inputs(found, {name: Path(folder) for name, folder in request.inputs.items()})
    for name in read:
        if missing := sum(name not in recording.inputs for recording in found):
            console.warn(
                f"the input {name} is missing for {missing} of {len(found)} recordings: their predictions do without; "
                f"give it in a column input:{name} of a table, or in a folder of files that `inputs` names"
            )
    audio = _audio(predictors, request)
    rows: list[tuple[str, float, float, Quality]] = []
    of_models: list[list[_OfRow]] = [[] for _ in predictors]
    skipped: list[Skipped] = []
    noticed: Counter[str] = Counter()
    of_recording: set[str] = set()
    extent = {"window_s": request.window_s, "batch_size": request.batch_size, "workers": request.workers}
    # Recordings are decoded side by side; if each had several threads for its spectrogram's product, they would keep
    # the cores from the networks.
    with threadpool_limits(1), console.task("predicting", total=len(found), unit="recordings") as task:
        for result in predict_recordings(predictors, found, audio=audio, **extent):
            if isinstance(result, Skipped):
                console.warn(f"skipped {result.file!r}: {result.reason}")
                skipped.append(result)
                of_recording.clear()
                task.advance()
                continue
            rows.append((result.file, result.start_s, result.end_s, result.quality))
            for of_model, prediction in zip(of_models, result.predictions, strict=True):
                embedding = prediction.embedding if request.embeddings else None
                attributes = list(prediction.attributes.values())
                of_model.append((attributes, embedding, prediction.cluster, prediction.silent))
            of_recording.update(result.quality.noticed)
            if result.is_last:
                noticed.update(of_recording)
                of_recording.clear()
                task.advance()
    if not rows:
        raise InputError(f"none of the {len(found)} recordings can be used; the warnings say why")
    files, starts_s, ends_s, quality = zip(*rows, strict=True)
    return Predictions(
        files=files,
        starts_s=np.array(starts_s, np.float64),
        ends_s=np.array(ends_s, np.float64),
        models=tuple(map(_stacked, (predictor.attributes for predictor in predictors), of_models)),
        skipped=tuple(skipped),
        quality=dict(zip(Quality._fields, np.array(quality, np.float64).T, strict=True)),
        noticed=dict(noticed),
    )


def _stacked(names: tuple[str, ...], rows: Sequence[_OfRow]) -> ModelPredictions:
    attributes, embeddings, clusters, silent = zip(*rows, strict=True)
    return ModelPredictions(
        names,
        np.array(attributes, np.float64),
        None if embeddings[0] is None else np.stack(embeddings),
        None if clusters[0] is None else np.array(clusters, np.int32),
        np.array(silent, bool),
    )


def _audio(predictors: Sequence[Predictor], request: PredictionSettings) -> list[AudioConfig]:
    """Each model's own settings, unless the request gives others."""
    given = {"remove_dc": request.remove_dc, "strict": request.strict_audio}
    changes: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    if request.channel is not None:
        changes["channel"] = channel_number(request.channel)
    if changes and isinstance(predictors[0].features, GivenFeatures):
        raise InputError(
            f"the models read {predictors[0].features.summary}; leave out `channel`, `remove_dc` and `strict_audio`, "
            "which are about audio"
        )
    return [dataclasses.replace(predictor.audio, **changes) for predictor in predictors]


def _recordings(request: PredictRequest, suffixes: frozenset[str]) -> list[Recording]:
    given = request.recordings
    items = [given] if isinstance(given, Path | str | Recording) else list(given)
    named = [item for item in items if isinstance(item, Recording)]
    paths = [Path(item) for item in items if not isinstance(item, Recording)]
    found = named + find_recordings(paths, suffixes, None if request.source is None else Path(request.source))
    if not found:
        raise InputError("no recording is given; give at least one")
    return found


def _check_distinct_attributes(predictors: Sequence[Predictor]) -> None:
    """Raises InputError where two models would fill the same column."""
    seen: dict[str, str] = {}
    for predictor in predictors:
        for name in predictor.attributes:
            if name in seen:
                raise InputError(f"{seen[name]} and {predictor.title} both predict {name}; give one of them")
            seen[name] = predictor.title
