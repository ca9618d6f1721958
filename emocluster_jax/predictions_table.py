"""Predictions as files that other tools read.

The CSV follows audformat's segmented index: `file,start,end` and a column an attribute, start and end as pandas writes
timedeltas ("0 days 00:00:01.500000"). pandas, audb, audinterface and nkululeko read it.
"""

from __future__ import annotations

import csv
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

import numpy as np

from emocluster_jax.atomic_files import replacing
from emocluster_jax.batch_inference import SegmentPrediction
from emocluster_jax.csv_lines import UnixLines
from emocluster_jax.errors import InputError
from emocluster_jax.inference import Predictor


class TableWriter:
    """Writes rows to an open CSV file."""

    def __init__(self, file: TextIO, attributes: Sequence[str]) -> None:
        self._rows = csv.writer(UnixLines(file))
        self._attributes = attributes
        self._rows.writerow(["file", "start", "end", *attributes])

    def write(self, segment: SegmentPrediction) -> None:
        values = {name: value for prediction in segment.predictions for name, value in prediction.attributes.items()}
        self._rows.writerow(
            [
                segment.file,
                timedelta_text(segment.start_s),
                timedelta_text(segment.end_s),
                *(f"{values[name]:.6f}" for name in self._attributes),
            ]
        )


@contextmanager
def writing_table(path: Path, predictors: Sequence[Predictor]) -> Iterator[TableWriter]:
    """A table that takes the place of `path` when the block ends without an error.

    Its attribute columns are those of the predictors, side by side in their order.
    """
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        yield TableWriter(file, [name for predictor in predictors for name in predictor.attributes])


def check_distinct_attributes(predictors: Sequence[Predictor], directories: Sequence[Path]) -> None:
    """Refuses models that would fill the same column, with an InputError that names both directories."""
    seen: dict[str, Path] = {}
    for predictor, directory in zip(predictors, directories, strict=True):
        for name in predictor.attributes:
            if name in seen:
                raise InputError(f"{seen[name]} and {directory} both predict {name}; give one of them")
            seen[name] = directory


class EmbeddingsCollector:
    """Embeddings and clusters of every row, for `write_embeddings`; 1 KB a row and model."""

    def __init__(self, predictors: Sequence[Predictor]) -> None:
        several = len(predictors) > 1
        self._prefixes = ["_".join(predictor.attributes) + "_" if several else "" for predictor in predictors]
        self._segments: list[tuple[str, float, float]] = []
        self._embeddings: list[list[np.ndarray]] = [[] for _ in predictors]
        self._clusters: list[list[int]] = [[] for _ in predictors]

    def add(self, segment: SegmentPrediction) -> None:
        self._segments.append((segment.file, segment.start_s, segment.end_s))
        for i, prediction in enumerate(segment.predictions):
            self._embeddings[i].append(prediction.embedding)
            if prediction.cluster is not None:
                self._clusters[i].append(prediction.cluster)

    def write(self, path: Path) -> None:
        """Writes, in the order of the table's rows:

        file: names, unicode; start, end: float64 seconds; embeddings: (n, E) float32; clusters: (n,) int32, for models
        with clusters. Of several models each has its own two, named after its attributes: `arousal_embeddings`,
        `arousal_clusters`.
        """
        files, starts, ends = zip(*self._segments, strict=True)
        arrays: dict[str, np.ndarray] = {
            "file": np.array(files),
            "start": np.array(starts, np.float64),
            "end": np.array(ends, np.float64),
        }
        for prefix, embeddings, clusters in zip(self._prefixes, self._embeddings, self._clusters, strict=True):
            arrays[f"{prefix}embeddings"] = np.stack(embeddings)
            if clusters:
                arrays[f"{prefix}clusters"] = np.array(clusters, np.int32)
        # Not by `np.savez`, which has a parameter called `file` and, before NumPy 2.1, no way to refuse pickles.
        with replacing(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
            for name, array in arrays.items():
                with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                    np.lib.format.write_array(file, array, allow_pickle=False)


def timedelta_text(seconds: float) -> str:
    """Seconds, rounded to microseconds, as pandas writes a timedelta."""
    microseconds = round(seconds * 1e6)
    minutes, microseconds = divmod(microseconds, 60_000_000)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    return f"{days} days {hours:02}:{minutes:02}:{microseconds // 1_000_000:02}.{microseconds % 1_000_000:06}"
