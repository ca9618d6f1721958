"""The JSON beside the records: what was prepared, how, from what, and what it is normalised by."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from emocluster_jax.config import (
    DEFAULT_AUDIO,
    SPLITS,
    AudioConfig,
    Features,
    check_label_names,
    features_from_dict,
)
from emocluster_jax.corpora.inputs import LENGTH, InputSizes, check_input_names
from emocluster_jax.corpora.labels import VAD, label_columns
from emocluster_jax.corpora.utterance import Utterance
from emocluster_jax.errors import InputError
from emocluster_jax.preprocessing.normalization import FeatureStatistics
from emocluster_jax.ranges import Number, Range
from emocluster_jax.records.folds import FEWEST, Folds
from emocluster_jax.settings import from_dict, to_dict
from emocluster_jax.storage.checksums import check_files, file_sha256
from emocluster_jax.storage.disk import check_utf8
from emocluster_jax.storage.json_files import read_sealed, write_sealed

FORMAT_VERSION = 2
_READ_VERSIONS = (1, 2)
"""Records of version 1 have the labels `VAD`, and do not say so."""
_LONGEST_NAME = 255
"""Bytes of a file's name, beyond which file systems raise errors of their own."""
_COUNT = Range(int, 0, (1 << 63) - 1)
_HOURS = Range(float, 0, 1_000_000_000)
FILE_NAME = "preparation.json"
_MOST_BYTES = 1 << 30
"""Of it: it may list, by name, millions of recordings."""
METADATA = ("dataset_info.json", "features.json")
"""What TFDS writes beside the records, and needs to read them."""


@dataclass(frozen=True)
class LabelStatistics:
    """Mean and population standard deviation of each label over the training split; NaN where it is always missing."""

    mean: Float[np.ndarray, " labels"]
    std: Float[np.ndarray, " labels"]


@dataclass(frozen=True)
class RecordFile:
    """One file of records; a split's files, in order of their names, hold its recordings sorted by id."""

    name: str
    split: str
    records: int
    sha256: str


@dataclass(frozen=True)
class SkippedRecording:
    """A recording that was left out, and why."""

    id: str
    reason: str


@dataclass(frozen=True)
class Layout:
    """What every record holds.

    Attributes:
      features: how a recording becomes chunks.
      labels: their names.
      inputs: further inputs, a vector each.
    """

    features: Features
    labels: tuple[str, ...]
    inputs: InputSizes = ()


def input_field(name: str) -> str:
    """The field of a record that holds a further input: its vector, NaN where it is missing."""
    return f"input_{name}"


@dataclass(frozen=True)
class GivenStatistics:
    """Feature statistics of other data, which the chunks are to be normalised by.

    Attributes:
      values: the statistics.
      features: how the frames that they are of were made.
      source: the directory that they were taken from.
    """

    values: FeatureStatistics
    features: Features
    source: str


@dataclass(frozen=True)
class Preparation:
    """A prepared data directory, apart from its recordings.

    Attributes:
      corpus: name of the corpus reader.
      source: where the corpus lay.
      request: SHA-256 of what was asked for: settings, rows, sizes of the files. The same request re-uses the data.
      features: how the recordings became chunks.
      feature_statistics: what the chunks are normalised by.
      statistics_from: the split that the feature statistics are of, or the data directory they were taken from.
      labels: their names, in the order in which the records hold them.
      label_statistics: in the same order, of the records' split `train`.
      counts: recordings per split; splits without any are left out.
      hours: duration per split.
      skipped: recordings that could not be used.
      padded: number of recordings shorter than one chunk.
      files: the record files, by split and number.
      metadata: SHA-256 of TFDS's own files beside them, by name.
      shared_speakers: those with recordings in more than one of training, validation and test.
      folds: how the labelled recordings, all in the split `train`, were assigned to folds; None without folds.
      audio: how audio files became signals.
      noticed: how many recordings have what `preprocessing.quality.NOTICES` tells, by its names; empty in what earlier
        versions wrote.
      inputs: further inputs that the records hold; none in what earlier versions wrote.
    """

    corpus: str
    source: str
    request: str
    features: Features
    feature_statistics: FeatureStatistics
    statistics_from: str
    labels: tuple[str, ...]
    label_statistics: LabelStatistics
    counts: dict[str, int]
    hours: dict[str, float]
    skipped: tuple[SkippedRecording, ...]
    padded: int
    files: tuple[RecordFile, ...]
    metadata: dict[str, str]
    shared_speakers: tuple[str, ...] = ()
    folds: Folds | None = None
    audio: AudioConfig = DEFAULT_AUDIO
    noticed: dict[str, int] = field(default_factory=dict)
    inputs: InputSizes = ()

    @property
    def layout(self) -> Layout:
        """What every record holds."""
        return Layout(self.features, self.labels, self.inputs)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the request and of all that came of it and training depends on: records and statistics.

        Records that are prepared again from the same recordings, on the same machine, have the same one.
        """
        features, labels = self.feature_statistics, self.label_statistics
        vectors = (features.mean, features.std, labels.mean, labels.std)
        made = [self.request, [dataclasses.astuple(file) for file in self.files], [v.tobytes().hex() for v in vectors]]
        return hashlib.sha256(json.dumps(made).encode()).hexdigest()

    @property
    def fingerprints(self) -> tuple[str, str]:
        """What a run that was trained on these knows them by: the fingerprint or, in earlier versions, the request."""
        return self.fingerprint, self.request


def metadata_checksums(data_dir: Path) -> dict[str, str]:
    """`Preparation.metadata` of what TFDS has written into `data_dir`."""
    return {name: file_sha256(data_dir / name) for name in METADATA}


def label_statistics(utterances: Sequence[Utterance], names: Sequence[str]) -> LabelStatistics:
    """Statistics of the finite labels of these rows, summed in float64."""
    columns = [column[np.isfinite(column)] for _, column in label_columns(utterances, names).columns()]
    mean = [column.mean() if len(column) else np.nan for column in columns]
    std = [column.std() if len(column) else np.nan for column in columns]
    return LabelStatistics(np.array(mean, np.float32), np.array(std, np.float32))


def write_preparation(data_dir: Path, preparation: Preparation) -> None:
    """Writes `preparation.json`, with a checksum of itself, into an existing directory, atomically."""
    labels = preparation.label_statistics
    values = {
        "format_version": FORMAT_VERSION,
        **{name: getattr(preparation, name) for name in _PLAIN_FIELDS},
        "features": to_dict(preparation.features),
        "audio": to_dict(preparation.audio),
        "feature_statistics": {
            "mean": _numbers(preparation.feature_statistics.mean),
            "std": _numbers(preparation.feature_statistics.std),
        },
        "labels": preparation.labels,
        "inputs": dict(preparation.inputs),
        "label_statistics": {"mean": _numbers(labels.mean), "std": _numbers(labels.std)},
        "skipped": [dataclasses.asdict(skipped) for skipped in preparation.skipped],
        "files": [dataclasses.asdict(file) for file in preparation.files],
        "metadata": preparation.metadata,
        "shared_speakers": preparation.shared_speakers,
        "folds": None if preparation.folds is None else dataclasses.asdict(preparation.folds),
    }
    write_sealed(data_dir / FILE_NAME, values)


def read_preparation(data_dir: Path) -> Preparation:
    """Reads what `write_preparation` wrote, and finds it and TFDS's files beside it whole; records are not looked at.

    Raises:
      InputError: no such directory, one without prepared data, of another format version, or with a damaged file.
    """
    path = data_dir / FILE_NAME
    if not data_dir.is_dir():
        raise InputError(f"no data directory at {data_dir}; prepare one with `prepare()`")
    check_utf8(data_dir)
    renewal = f"remove {data_dir} and prepare it again"
    remedy = f"restore a copy, or {renewal}"
    values = read_sealed(
        path,
        remedy,
        versions=_READ_VERSIONS,
        renewal=renewal,
        missing=f"{data_dir} is not a prepared data directory: it has no {FILE_NAME}; give one that `prepare()` wrote",
        most_bytes=_MOST_BYTES,
    )
    try:
        preparation = _preparation(values, str(path))
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        detail = f"no entry {error}" if isinstance(error, KeyError) else str(error)
        raise InputError(f"{path} is damaged: {detail}; {renewal}") from None
    check_files(data_dir, preparation.metadata, remedy)
    return preparation


_PLAIN_FIELDS = ("corpus", "source", "request", "statistics_from", "counts", "hours", "padded", "noticed")


def _preparation(values: dict[str, Any], where: str) -> Preparation:
    """The dataclass; raises KeyError, TypeError, ValueError, AttributeError, OverflowError or InputError otherwise."""
    # Earlier versions wrote the request as the fingerprint.
    values = {"request": values.get("fingerprint"), **values}
    for name in ("corpus", "source", "request", "statistics_from"):
        if not isinstance(values[name], str):
            raise ValueError(f"{name} is no text")
    features = features_from_dict(values["features"], f"{where}: features")
    counts = _checked(_COUNT, values["counts"], f"{where}: counts")
    hours = _checked(_HOURS, values["hours"], f"{where}: hours")
    files = tuple(
        RecordFile(str(f["name"]), str(f["split"]), int(f["records"]), str(f["sha256"])) for f in values["files"]
    )
    if any(split not in SPLITS for split in counts) or any(
        "/" in file.name or len(file.name) > _LONGEST_NAME for file in files
    ):
        raise ValueError("an unknown split or a record file outside the directory")
    if set(hours) != set(counts):
        raise ValueError("hours and counts are of different splits")
    for split, count in counts.items():
        records = [file.records for file in files if file.split == split]
        if min(records, default=0) < 1 or sum(records) != count:
            raise ValueError(f"the record files do not hold the {count} recordings of the split {split!r}")
    given, labels = values["feature_statistics"], values["label_statistics"]
    names = VAD if values["format_version"] == 1 else tuple(values["labels"])
    if names:
        check_label_names(names, f"{where}: labels")
    if None in given["mean"] or None in given["std"]:
        raise ValueError("a feature statistic is missing")
    if min(given["std"], default=1) <= 0:  # versions before wrote 0 for a band that never varied
        raise ValueError("a feature's standard deviation is not above 0")
    if any(std is not None and std < 0 for std in labels["std"]):
        raise ValueError("a label's standard deviation is below 0")
    return Preparation(
        corpus=values["corpus"],
        source=values["source"],
        request=values["request"],
        features=features,
        feature_statistics=FeatureStatistics(
            _vector(given["mean"], features.dimensions), _vector(given["std"], features.dimensions)
        ),
        statistics_from=values["statistics_from"],
        labels=names,
        label_statistics=LabelStatistics(_vector(labels["mean"], len(names)), _vector(labels["std"], len(names))),
        counts=counts,
        hours=hours,
        skipped=tuple(SkippedRecording(str(s["id"]), str(s["reason"])) for s in values["skipped"]),
        padded=_COUNT.check(f"{where}: padded", values["padded"]),
        files=files,
        metadata={name: str(values["metadata"][name]) for name in METADATA},
        # Earlier versions wrote none of these.
        shared_speakers=tuple(map(str, values.get("shared_speakers", ()))),
        folds=None if values.get("folds") is None else _folds(values["folds"], counts),
        audio=from_dict(AudioConfig, values.get("audio", {}), f"{where}: audio"),
        noticed=_checked(_COUNT, values.get("noticed", {}), f"{where}: noticed"),
        inputs=_inputs(values.get("inputs", {}), f"{where}: inputs"),
    )


def _checked(limits: Range[Number], values: dict[str, Any], where: str) -> dict[str, Number]:
    return {str(name): limits.check(f"{where}: {name}", value) for name, value in values.items()}


def _inputs(values: dict[str, Any], where: str) -> InputSizes:
    check_input_names(values, where)
    return tuple(sorted(_checked(LENGTH, values, where).items()))


def _folds(values: dict[str, Any], counts: dict[str, int]) -> Folds:
    folds = Folds(
        tuple(tuple(map(str, names)) for names in values["speakers"]),
        tuple(map(int, values["of_recordings"])),
    )
    if set(counts) - {"train", "unlabeled"} or len(folds.of_recordings) != counts.get("train"):
        raise ValueError("its folds are not of the recordings of its split 'train'")
    if folds.count < FEWEST or set(folds.of_recordings) != set(range(1, folds.count + 1)):
        raise ValueError("its folds are not numbered from 1, without gaps")
    return folds


def _numbers(vector: Float[np.ndarray, " n"]) -> list[float | None]:
    """JSON has no NaN; `repr` of a float64 keeps every bit of a float32."""
    return [float(value) if np.isfinite(value) else None for value in vector]


def _vector(values: list[float | None], length: int) -> Float[np.ndarray, " n"]:
    if len(values) != length:
        raise ValueError(f"{len(values)} statistics instead of {length}")
    if any(type(value) not in (int, float, type(None)) for value in values):
        raise ValueError("a statistic is not a number")
    with np.errstate(over="ignore"):
        vector = np.array([np.nan if value is None else value for value in values], np.float32)
    if np.isinf(vector).any():
        raise ValueError("infinite statistics")
    return vector
