"""Predictions as files that other tools read.

The CSV follows audformat's segmented index: `file,start,end` and a column an attribute, start and end as pandas writes
timedeltas ("0 days 00:00:01.500000"). pandas, audb, audinterface and nkululeko read it.
"""

from __future__ import annotations

import csv
import re
import zipfile
from pathlib import Path

import numpy as np

from emocluster_jax.api.prediction import Predictions
from emocluster_jax.storage.atomic_files import replacing
from emocluster_jax.storage.csv_lines import UnixLines

_FORMULA = re.compile(r"[\t\r\n]|\s*[-=+@\uff1d\uff0b\uff0d\uff20]")
"""How a cell begins that a spreadsheet may evaluate; the last four are the signs before them in full width.

Source: OWASP, "CSV Injection".
"""


def write_table(path: Path, predictions: Predictions, *, quality: bool = False, spreadsheet_safe: bool = False) -> None:
    """Writes a row a recording or window, with the attributes of all models side by side in their order.

    What a model has no number for, as of silence, is an empty cell.

    Args:
      path: of the CSV file.
      predictions: what to write.
      quality: also write the columns of `predictions.quality`, with empty cells for what is not known.
      spreadsheet_safe: put an apostrophe before names that a spreadsheet would evaluate, and all cells in quotation
        marks, so that a spreadsheet that separates by semicolons does not find others in them.
    """
    columns = {name: [_number(value) for value in values] for name, values in predictions.attributes.items()}
    for name, values in predictions.quality.items() if quality else ():
        columns[name] = [f"{value:.0f}" if value.is_integer() else _number(value) for value in values.tolist()]
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(UnixLines(file), quoting=csv.QUOTE_ALL if spreadsheet_safe else csv.QUOTE_MINIMAL)
        rows.writerow(["file", "start", "end", *columns])
        for name, start_s, end_s, *cells in zip(
            predictions.files, predictions.starts_s, predictions.ends_s, *columns.values(), strict=True
        ):
            times = timedelta_text(start_s), timedelta_text(end_s)
            rows.writerow([safe_text(name) if spreadsheet_safe else name, *times, *cells])


def write_embeddings(path: Path, predictions: Predictions) -> None:
    """Writes, in the order of the table's rows, predictions that have embeddings:

    file: names, unicode; start, end: float64 seconds; embeddings: (n, E) float32, NaN where a row is silent; clusters:
    (n,) int32, -1 where a row is silent, for models with clusters. Of several models each has its own two, named after
    its attributes: `arousal_embeddings`, `arousal_clusters`.
    """
    arrays = {"file": np.array(predictions.files), "start": predictions.starts_s, "end": predictions.ends_s}
    for model in predictions.models:
        prefix = "_".join(model.names) + "_" if len(predictions.models) > 1 else ""
        for name, array in (("embeddings", model.embeddings), ("clusters", model.clusters)):
            if array is not None:
                arrays[f"{prefix}{name}"] = array
    # Not by `np.savez`, which has a parameter called `file` and, before NumPy 2.1, no way to refuse pickles.
    with replacing(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                np.lib.format.write_array(file, array, allow_pickle=False)


def safe_text(text: str) -> str:
    """A text that no spreadsheet evaluates: where one might, and where the text begins with an apostrophe, one more.

    `str.removeprefix("'")` gives the text back, whatever it was.
    """
    return f"'{text}" if text.startswith("'") or _FORMULA.match(text) else text


def _number(value: float) -> str:
    return "" if np.isnan(value) else f"{value:.6f}"


def timedelta_text(seconds: float) -> str:
    """Seconds, rounded to microseconds, as pandas writes a timedelta."""
    microseconds = round(seconds * 1e6)
    minutes, microseconds = divmod(microseconds, 60_000_000)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    return f"{days} days {hours:02}:{minutes:02}:{microseconds // 1_000_000:02}.{microseconds % 1_000_000:06}"
