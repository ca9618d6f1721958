"""The predictions of every test sentence beside the truth, as a run keeps them: what significance tests read."""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from emocluster_jax.errors import InputError
from emocluster_jax.storage.atomic_files import replacing
from emocluster_jax.storage.bounded_files import read_bytes
from emocluster_jax.storage.csv_lines import UnixLines
from emocluster_jax.storage.json_files import shortened

TEST_PREDICTIONS = "test_predictions.csv"
"""Its name in a work directory."""
_REMEDY = "resume its training, which writes it anew"
_MOST_BYTES = 128 << 20
"""A million sentences."""
_LARGEST = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class SentencePredictions:
    """Predicted and rated attributes of the sentences of a split, in its order.

    Attributes:
      ids: of the U sentences.
      attributes: names of the A attributes.
      truth: (U, A) in label units, NaN where there is no label.
      predictions: (U, A) in label units.
    """

    ids: tuple[str, ...]
    attributes: tuple[str, ...]
    truth: Float32[np.ndarray, "utterances A"]
    predictions: Float32[np.ndarray, "utterances A"]


def write_predictions(path: Path, sentences: SentencePredictions) -> None:
    """Writes `id` and, an attribute, `NAME_truth,NAME_prediction`; an empty cell where there is no label.

    Numbers are as short as they can be and still the same in float32.
    """
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(UnixLines(file))
        rows.writerow(_header(sentences.attributes))
        for sentence_id, truth, predictions in zip(sentences.ids, sentences.truth, sentences.predictions, strict=True):
            pairs = zip(truth, predictions, strict=True)
            rows.writerow([sentence_id, *(_cell(value) for pair in pairs for value in pair)])


def read_predictions(path: Path, sha256: str | None = None) -> SentencePredictions:
    """Reads what `write_predictions` wrote.

    Args:
      path: the file.
      sha256: of the content that the scores beside it are of; None takes any.

    Raises:
      InputError: no such file, one of another form, or not the one that the scores are of.
    """
    try:
        content = read_bytes(path, _REMEDY, _MOST_BYTES)
    except FileNotFoundError:
        raise InputError(f"{path} cannot be read (no such file); {_REMEDY}") from None
    if sha256 is not None and hashlib.sha256(content).hexdigest() != sha256:
        raise InputError(f"{path} is damaged, or not what the scores beside it are of (its SHA-256 differs); {_REMEDY}")
    try:
        header, *rows = csv.reader(io.StringIO(content.decode("utf-8"), newline=""))
        attributes = tuple(name.removesuffix("_truth") for name in header[1::2])
        if header != _header(attributes):
            raise ValueError(f"its columns are {','.join(header)}")
        values = np.array([_numbers(row, len(header), number) for number, row in enumerate(rows, start=1)])
    except (ValueError, csv.Error) as error:
        raise InputError(f"{path} cannot be read ({shortened(str(error))}); {_REMEDY}") from None
    values = values.astype(np.float32).reshape(len(rows), len(attributes), 2)
    return SentencePredictions(tuple(row[0] for row in rows), attributes, values[..., 0], values[..., 1])


def _header(attributes: Sequence[str]) -> list[str]:
    return ["id", *(f"{name}_{kind}" for name in attributes for kind in ("truth", "prediction"))]


def _numbers(row: Sequence[str], columns: int, number: int) -> list[float]:
    """What follows a row's id; NaN for an empty cell."""
    if len(row) != columns:
        raise ValueError(f"row {number} has {len(row)} cells below a header of {columns}")
    values = [float(cell or "nan") for cell in row[1:]]
    for cell, value in zip(row[1:], values, strict=True):
        if cell and not abs(value) <= _LARGEST:
            raise ValueError(f"row {number}: {cell} is no number of single precision")
    return values


def _cell(value: np.float32) -> str:
    return str(value) if np.isfinite(value) else ""
