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
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from emocluster_jax.api.frames import require_pandas
from emocluster_jax.errors import InputError
from emocluster_jax.storage.atomic_files import replacing, replacing_csv
from emocluster_jax.storage.json_files import shortened

if TYPE_CHECKING:
    import pandas

    from emocluster_jax.api.prediction import Predictions

TableFormat = Literal["csv", "parquet"]
_INDEX = ["file", "start", "end"]
_TIMEDELTA = r"(?:\d+ days \d\d:\d\d:\d\d(?:\.\d{1,9})?)?"
"""As pandas writes it, or nothing. Other texts, such as seconds, `to_timedelta` would take for nanoseconds."""
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


def read_predictions(path: Path | str) -> pandas.DataFrame:
    """Reads a table of predictions, CSV or Parquet, as the frame that `Predictions.to_frame` makes.

    Returns:
      The attributes, in label units, and the columns of quality, if they were written: float64, NaN where a cell is
      empty. The index is audformat's: `file`, and `start` and `end` as timedeltas, NaT where a cell is empty. Of
      clusters the table knows nothing; `write_embeddings` writes those.

    Raises:
      InputError: there is no such file, it is not such a table, or pandas is not installed, or pyarrow for Parquet.
    """
    path = Path(path)
    require_pandas()
    import pandas

    table: Any  # to type checkers a column might be a frame
    try:
        with path.open("rb") as file:
            begins_as_parquet = file.read(4) == b"PAR1"
        if table_format(path, "parquet" if begins_as_parquet else "csv") == "parquet":
            table = pandas.read_parquet(path)
        else:  # a recording may be called NA
            texts: Any = dict.fromkeys(_INDEX, "string")
            table = pandas.read_csv(path, dtype=texts, keep_default_na=False, na_values="")
        if missing := [name for name in _INDEX if name not in table.columns]:
            raise ValueError(f"it has no column {', '.join(missing)}")
        for name in ("start", "end"):
            column = table[name]
            if column.dtype.kind != "m" and not column.astype("string").fillna("").str.fullmatch(_TIMEDELTA).all():
                raise ValueError(f"its {name} is not always a timedelta, such as {timedelta_text(1.5)}")
            table[name] = pandas.to_timedelta(column).astype("timedelta64[ns]")
        table = table.astype({"file": "string"}).set_index(_INDEX).astype("float64")
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror or shortened(str(error))})") from None
    except (ValueError, TypeError) as error:
        reason = shortened(" ".join(str(error).split()))
        raise InputError(
            f"{path} is not a table of predictions ({reason}); give one that `launch.predict` or `write_table` wrote"
        ) from None
    return table


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
