"""Tables of recordings as pandas frames, which audformat, audinterface and nkululeko take as they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from emocluster_jax.corpora.segments import split_id
from emocluster_jax.errors import InputError
from emocluster_jax.records.reader import Descriptions

if TYPE_CHECKING:
    import pandas

Columns = Mapping[str, Sequence[Any] | np.ndarray]


def require_pandas() -> None:
    """Raises InputError where pandas is not installed."""
    if find_spec("pandas") is None:
        raise InputError('frames need pandas, which is not installed: pip install "emocluster_jax[pandas]"')


def segmented_frame(
    files: Sequence[str], starts_s: Float[np.ndarray, " n"], ends_s: Float[np.ndarray, " n"], columns: Columns
) -> pandas.DataFrame:
    """A frame of n rows in audformat's segmented index (file, start, end).

    Raises:
      InputError: pandas is not installed.
    """
    require_pandas()
    import pandas

    # Rounded to microseconds, as in the tables of `launch.predict`.
    start, end = (
        pandas.TimedeltaIndex((1e6 * seconds).round().astype("timedelta64[us]").astype("timedelta64[ns]"))
        for seconds in (starts_s, ends_s)
    )
    index = [pandas.Index(files, dtype="string"), start, end]
    return pandas.DataFrame(dict(columns), index=pandas.MultiIndex.from_arrays(index, names=["file", "start", "end"]))


def recordings_frame(recordings: Descriptions, columns: Columns) -> pandas.DataFrame:
    """A `segmented_frame` of prepared recordings; the segments in their ids become times."""
    files, starts_s, ends_s = zip(*map(split_id, recordings.ids), strict=True)
    starts = np.array([start_s or 0.0 for start_s in starts_s], np.float64)
    given = np.array([np.nan if end_s is None else end_s for end_s in ends_s], np.float64)
    return segmented_frame(files, starts, np.where(np.isnan(given), starts + recordings.durations_s, given), columns)
