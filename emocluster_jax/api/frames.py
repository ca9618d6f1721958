"""Tables of recordings as pandas frames, which audformat, audinterface and nkululeko take as they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from emocluster_jax.corpora.segments import split_id
from emocluster_jax.errors import InputError
from emocluster_jax.records.reader import Descriptions

if TYPE_CHECKING:
    import pandas


def segmented_frame(
    files: Sequence[str],
    starts_s: Float[np.ndarray, " n"],
    ends_s: Float[np.ndarray, " n"],
    columns: Mapping[str, Sequence[Any] | np.ndarray],
) -> pandas.DataFrame:
    """A frame in audformat's segmented index (file, start, end).

    Args:
      files: names, n.
      starts_s: where each segment begins, in seconds.
      ends_s: where it ends.
      columns: by name, n values each.

    Raises:
      InputError: pandas is not installed.
    """
    try:
        import pandas
    except ImportError:
        raise InputError('frames need pandas, which is not installed: pip install "emocluster_jax[pandas]"') from None
    # Rounded to microseconds, as in the tables of `launch.predict`.
    start, end = (
        pandas.TimedeltaIndex((1e6 * seconds).round().astype("timedelta64[us]").astype("timedelta64[ns]"))
        for seconds in (np.asarray(starts_s, np.float64), np.asarray(ends_s, np.float64))
    )
    index = pandas.MultiIndex.from_arrays(
        [pandas.Index(files, dtype="string"), start, end], names=["file", "start", "end"]
    )
    return pandas.DataFrame(dict(columns), index=index)


def recordings_frame(recordings: Descriptions, columns: Mapping[str, Sequence[Any] | np.ndarray]) -> pandas.DataFrame:
    """A frame of prepared recordings in audformat's segmented index; what their ids say of segments becomes times.

    Args:
      recordings: n, with their ids and durations.
      columns: by name, n values each.

    Raises:
      InputError: pandas is not installed.
    """
    places = [split_id(id) for id in recordings.ids]
    starts_s = np.array([start_s or 0.0 for _, start_s, _ in places], np.float64)
    durations_s = recordings.durations_s.astype(np.float64)
    ends_s = [
        start_s + duration_s if end_s is None else end_s
        for (_, _, end_s), start_s, duration_s in zip(places, starts_s, durations_s, strict=True)
    ]
    return segmented_frame([file for file, _, _ in places], starts_s, np.array(ends_s, np.float64), columns)
