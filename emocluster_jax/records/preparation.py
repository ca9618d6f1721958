"""The JSON beside the records: what was prepared, how, from what, and what it is normalised by."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
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
from emocluster_jax.console import audio_duration
from emocluster_jax.corpora.inputs import FurtherInputs, inputs_as_json, inputs_from_json
from emocluster_jax.corpora.labels import VAD, label_columns
from emocluster_jax.corpora.utterance import Utterance
from emocluster_jax.errors import InputError, one_line
from emocluster_jax.preprocessing.normalization import Statistics
from emocluster_jax.ranges import Number, Range
from emocluster_jax.records.folds import FEWEST, Folds
from emocluster_jax.settings import as_type, settings_of
from emocluster_jax.storage.checksums import check_files, file_sha256
from emocluster_jax.storage.disk import check_utf8
from emocluster_jax.storage.json_files import read_sealed, shortened, write_sealed

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
    """What every record holds: chunks cut by `features`, labels, and further inputs."""

    features: Features
    labels: tuple[str, ...]
    inputs: FurtherInputs = ()


def input_field(name: str) -> str:
    """The field of a record that holds a further input: NaN where it is missing."""
    return f"input_{name}"


@dataclass(frozen=True)
class GivenStatistics:
    """Feature statistics of other data, by which the chunks are normalised; `source` is the directory they are from."""

    values: Statistics
    features: Features
    source: str


@dataclass(frozen=True)
class Preparation:
    """A prepared data directory, apart from its recordings; earlier versions did not write the fields with defaults."""

    corpus: str  # its reader's name
    source: str  # where the corpus was
    request: str  # SHA-256 of settings, rows, sizes of the files; the same request re-uses the data
    features: Features  # how the recordings became chunks
    feature_statistics: Statistics  # what the chunks are normalised by
    statistics_from: str  # the split that these are of, or the data directory they were taken from
    labels: tuple[str, ...]  # their names, in the order in which the records hold them
    label_statistics: Statistics  # in the same order, of the records' split `train`
    counts: dict[str, int]  # recordings per split; splits without any are left out
    hours: dict[str, float]  # duration per split
    skipped: tuple[SkippedRecording, ...]
    padded: int  # number of recordings shorter than one chunk
    files: tuple[RecordFile, ...]  # by split and number
    metadata: dict[str, str]  # SHA-256 of TFDS's own files beside them, by name
    shared_speakers: tuple[str, ...] = ()  # with recordings in more than one of training, validation and test
    folds: Folds | None = None  # of the labelled recordings, all in the split `train`; None without folds
    audio: AudioConfig = DEFAULT_AUDIO  # how audio files became signals
    noticed: dict[str, int] = field(default_factory=dict)  # recordings with each of `preprocessing.quality.NOTICES`
    inputs: FurtherInputs = ()  # further inputs that the records hold

    def __repr__(self) -> str:
        lines = [
            f"Preparation of {self.source} ({self.corpus}): {sum(self.counts.values())} recordings, "
            + audio_duration(sum(self.hours.values())),
            ", ".join(f"{split} {count}" for split, count in self.counts.items()),
            f"labels: {', '.join(self.labels) or 'none'}",
        ]
        if self.skipped:
            lines.append(f"{len(self.skipped)} left out (`skipped`): {self.skipped[0].id}: {self.skipped[0].reason}")
        return "\n".join(map(one_line, lines))

    @property
    def layout(self) -> Layout:
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
    """`Preparation.metadata` of the files in `data_dir`."""
    return {name: file_sha256(data_dir / name) for name in METADATA}


def label_statistics(utterances: Sequence[Utterance], names: Sequence[str]) -> Statistics:
    """Statistics of the finite labels of these rows, summed in float64; NaN for one that is always missing."""
    columns = [column[np.isfinite(column)] for _, column in label_columns(utterances, names).columns()]
    mean = [column.mean() if len(column) else np.nan for column in columns]
    std = [column.std() if len(column) else np.nan for column in columns]
    return Statistics(np.array(mean, np.float32), np.array(std, np.float32))


def write_preparation(data_dir: Path, preparation: Preparation) -> None:
    """Writes `preparation.json`, with a checksum of itself, into an existing directory, atomically."""
    values = {
        "format_version": FORMAT_VERSION,
        **dataclasses.asdict(preparation),
        "inputs": inputs_as_json(preparation.inputs),
    }
    for name in ("feature_statistics", "label_statistics"):
        values[name] = {key: _numbers(vector) for key, vector in values[name].items()}
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
        preparation = _preparation(values)
    except (InputError, KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        detail = f"no entry {error}" if isinstance(error, KeyError) else shortened(str(error))
        raise InputError(f"{path} is damaged: {detail}; {renewal}") from None
    check_files(data_dir, preparation.metadata, remedy)
    return preparation


def _preparation(values: dict[str, Any]) -> Preparation:
    values = {"request": values.get("fingerprint"), **values}  # as earlier versions named it
    if values["format_version"] == 1:
        values["labels"] = VAD
    entries = {}
    for field_ in settings_of(Preparation):
        name = field_.name
        if field_.required or name in values:
            read = _READERS.get(name, partial(as_type, field_.type))
            entries[name] = read(values[name], name)
    preparation = Preparation(**entries)
    _check(preparation)
    return preparation


def _check(preparation: Preparation) -> None:
    """Raises ValueError if entries contradict each other."""
    counts, files = preparation.counts, preparation.files
    if set(counts) - set(SPLITS) or any("/" in file.name or len(file.name) > _LONGEST_NAME for file in files):
        raise ValueError("an unknown split or a record file outside the directory")
    if set(preparation.hours) != set(counts):
        raise ValueError("hours and counts are of different splits")
    for split, count in counts.items():
        records = [file.records for file in files if file.split == split]
        if min(records, default=0) < 1 or sum(records) != count:
            raise ValueError(f"the record files do not hold the {count} recordings of the split {split!r}")
    features, labels = preparation.feature_statistics, preparation.label_statistics
    for statistics, length in ((features, preparation.features.dimensions), (labels, len(preparation.labels))):
        if len(statistics.mean) != length:
            raise ValueError(f"{len(statistics.mean)} statistics instead of {length}")
    if np.isnan([features.mean, features.std]).any():
        raise ValueError("a feature statistic is missing")
    if (features.std <= 0).any():  # versions before wrote 0 for a band that never varied
        raise ValueError("a feature's standard deviation is not above 0")
    for given in preparation.inputs:
        given.shape(preparation.features)  # checks its size
    if (labels.std < 0).any():
        raise ValueError("a label's standard deviation is below 0")
    if (folds := preparation.folds) is not None:
        if set(counts) - {"train", "unlabeled"} or len(folds.of_recordings) != counts.get("train"):
            raise ValueError("its folds are not of the recordings of its split 'train'")
        if folds.count < FEWEST or set(folds.of_recordings) != set(range(1, folds.count + 1)):
            raise ValueError("its folds are not numbered from 1, without gaps")


def _ranged(limits: Range[Number]) -> Callable[[dict[str, Any], str], dict[str, Number]]:
    return lambda values, where: {name: limits.check(f"{where}: {name}", value) for name, value in values.items()}


def _labels(names: Sequence[str], where: str) -> tuple[str, ...]:
    if names:
        check_label_names(names, where)
    return tuple(names)


def _numbers(vector: Float[np.ndarray, " n"]) -> list[float | None]:
    """JSON has no NaN; `repr` of a float64 keeps every bit of a float32."""
    return [float(value) if np.isfinite(value) else None for value in vector]


def _statistics(values: dict[str, Any], _: str) -> Statistics:
    lists = values["mean"], values["std"]
    if len(lists[0]) != len(lists[1]):
        raise ValueError(f"{len(lists[0])} statistics instead of {len(lists[1])}")
    if any(type(value) not in (int, float, type(None)) for given in lists for value in given):
        raise ValueError("a statistic is not a number")
    with np.errstate(over="ignore"):
        vectors = [np.array([np.nan if value is None else value for value in given], np.float32) for given in lists]
    if np.isinf(vectors).any():
        raise ValueError("infinite statistics")
    return Statistics(*vectors)


_READERS: dict[str, Callable[[Any, str], Any]] = {
    "features": features_from_dict,
    "feature_statistics": _statistics,
    "labels": _labels,
    "label_statistics": _statistics,
    "counts": _ranged(_COUNT),
    "hours": _ranged(_HOURS),
    "padded": lambda value, where: _COUNT.check(where, value),
    "metadata": lambda values, _: {name: str(values[name]) for name in METADATA},
    "noticed": _ranged(_COUNT),
    "inputs": inputs_from_json,
}
"""What makes a field of `Preparation` of its entry and, for messages, the entry's place; others are read by type."""
