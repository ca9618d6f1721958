"""Predictions as files for other tools: a table as CSV or Parquet, embeddings as NumPy arrays.

A table has the columns `file,start,end` of audformat's segmented index and one for each attribute. In CSV, start and
end are written as pandas writes timedeltas ("0 days 00:00:01.500000"); in Parquet they are durations.
"""

from __future__ import annotations

import csv
import re
import zipfile
from datetime import datetime, timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from emocluster_jax.errors import InputError
from emocluster_jax.storage.atomic_files import replacing, replacing_csv

if TYPE_CHECKING:
    from emocluster_jax.api.prediction import Predictions

TableFormat = Literal["csv", "parquet"]
_FORMULA = re.compile(r"[\t\r\n]|\s*[-=+@\uff1d\uff0b\uff0d\uff20]")
"""The beginnings of cells that a spreadsheet may evaluate; the last four are the signs before them in full width.

Source: OWASP, "CSV Injection".
"""


def table_format(path: Path, asked: TableFormat | None, *, spreadsheet_safe: bool = False) -> TableFormat:
    """The format of a table: the one asked for, or Parquet for files named `.parquet` and CSV for all others.

    Raises:
      InputError: Parquet without pyarrow, or with `spreadsheet_safe`, which is about CSV.
    """
    if (asked or path.suffix.lower().removeprefix(".")) != "parquet":
        return "csv"
    if spreadsheet_safe:
        raise InputError("`spreadsheet_safe` is about CSV; leave it out, or write CSV")
    if find_spec("pyarrow") is None:
        raise InputError('Parquet needs pyarrow, which is not installed: pip install "emocluster_jax[parquet]"')
    return "parquet"


def write_table(
    path: Path,
    predictions: Predictions,
    *,
    format: TableFormat = "csv",
    quality: bool = False,
    spreadsheet_safe: bool = False,
) -> None:
    """Writes a row per recording or window, with the attributes of all models side by side.

    Missing values, such as predictions for silence, are empty cells in CSV and null in Parquet. Numbers have six
    decimals in CSV, and all of theirs in Parquet.

    Args:
      quality: also write the columns of `predictions.quality`.
      spreadsheet_safe: put an apostrophe before names that a spreadsheet would evaluate, and quote all cells of a CSV,
        so that a spreadsheet that separates by semicolons does not split them.
    """
    columns = predictions.attributes | (predictions.quality if quality else {})
    times_s = predictions.starts_s, predictions.ends_s
    if format == "parquet":
        import pyarrow
        from pyarrow.parquet import write_table as write_parquet

        start, end = (
            pyarrow.array(np.rint(seconds * 1e6).astype(np.int64) * 1_000, pyarrow.duration("ns"))
            for seconds in times_s
        )
        values = {name: pyarrow.array(column, from_pandas=True) for name, column in columns.items()}  # null for NaN
        files = pyarrow.array(predictions.files, pyarrow.string())
        table = pyarrow.table({"file": files, "start": start, "end": end, **values})
        with replacing(path) as temporary:
            write_parquet(table, temporary)
        return
    cells = [
        [_number(value, whole=name in predictions.quality) for value in column.tolist()]
        for name, column in columns.items()
    ]
    with replacing_csv(path, quoting=csv.QUOTE_ALL if spreadsheet_safe else csv.QUOTE_MINIMAL) as rows:
        rows.writerow(["file", "start", "end", *columns])
        for name, start_s, end_s, *row in zip(predictions.files, *times_s, *cells, strict=True):
            shown = safe_text(name) if spreadsheet_safe else name
            rows.writerow([shown, timedelta_text(start_s), timedelta_text(end_s), *row])


def write_embeddings(path: Path, predictions: Predictions) -> None:
    """Writes predictions with embeddings as .npz: `file`, `start`, `end` (seconds), `embeddings` and, for models with
    clusters, `clusters`, as in `ModelPredictions`. Each of several models has its own, named after its attributes:
    `arousal_embeddings`, `arousal_clusters`.
    """
    arrays = {"file": np.array(predictions.files), "start": predictions.starts_s, "end": predictions.ends_s}
    for model in predictions.models:
        prefix = "_".join(model.names) + "_" if len(predictions.models) > 1 else ""
        for name, array in (("embeddings", model.embeddings), ("clusters", model.clusters)):
            if array is not None:
                arrays[f"{prefix}{name}"] = array
    # `np.savez` has a parameter called `file` and, before NumPy 2.1, no way to refuse pickles.
    with replacing(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                np.lib.format.write_array(file, array, allow_pickle=False)


def safe_text(text: str) -> str:
    """A text that no spreadsheet evaluates: one that might be, or that begins with an apostrophe, gets one in front.

    `str.removeprefix("'")` gives the text back, whatever it was.
    """
    return f"'{text}" if text.startswith("'") or _FORMULA.match(text) else text


def timedelta_text(seconds: float) -> str:
    """Seconds, rounded to microseconds, as pandas writes a timedelta."""
    span = timedelta(microseconds=round(seconds * 1e6))
    return f"{span.days} days {(datetime.min + span).time().isoformat('microseconds')}"


def _number(value: float, whole: bool) -> str:
    if np.isnan(value):
        return ""
    return f"{value:.0f}" if whole and value.is_integer() else f"{value:.6f}"
