"""The predictions of every test sentence beside the truth, as a run keeps them: what significance tests read."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from emocluster_jax.atomic_files import replacing
from emocluster_jax.csv_lines import UnixLines
from emocluster_jax.errors import InputError

TEST_PREDICTIONS = "test_predictions.csv"
"""Its name in a work directory."""


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
    header = ["id", *(f"{name}_{kind}" for name in sentences.attributes for kind in ("truth", "prediction"))]
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(UnixLines(file))
        rows.writerow(header)
        for sentence_id, truth, predictions in zip(sentences.ids, sentences.truth, sentences.predictions, strict=True):
            pairs = zip(truth, predictions, strict=True)
            rows.writerow([sentence_id, *(_cell(value) for pair in pairs for value in pair)])


def read_predictions(path: Path) -> SentencePredictions:
    """Reads what `write_predictions` wrote.

    Raises:
      InputError: no such file, or one of another form.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            header, *rows = csv.reader(file)
        attributes = tuple(name.removesuffix("_truth") for name in header[1::2])
        expected = ["id", *(f"{name}_{kind}" for name in attributes for kind in ("truth", "prediction"))]
        if header != expected:
            raise ValueError(f"its columns are {','.join(header)}")
        values = np.array([[cell or "nan" for cell in row[1:]] for row in rows], np.float32)
        values = values.reshape(len(rows), len(attributes), 2)
    except (OSError, ValueError, csv.Error) as error:
        raise InputError(f"{path} cannot be read ({error}); resume its training, which writes it anew") from None
    return SentencePredictions(tuple(row[0] for row in rows), attributes, values[..., 0], values[..., 1])


def _cell(value: np.float32) -> str:
    return str(value) if np.isfinite(value) else ""
