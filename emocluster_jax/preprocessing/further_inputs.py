"""Further inputs of recordings: vectors, and frames that are cut where the chunks of the sound lie."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32

from emocluster_jax.config import Features
from emocluster_jax.corpora.inputs import FurtherInput, FurtherInputs
from emocluster_jax.errors import RecordingError
from emocluster_jax.preprocessing.chunks import chunk_step
from emocluster_jax.preprocessing.given_frames import checked_array, read_array

InputArray = Float32[np.ndarray, " ..."]
"""A vector (numbers,), or frames: of a whole file (frames, numbers), or in chunks (chunks, frames, numbers)."""

_TOLERANCE_S, _TOLERANCE = 0.15, 0.1
"""How much longer or shorter than its sound a file's frames may be: so much, and this share of the sound. Video often
begins or ends some frames beside its sound; twice the rate, or half of it, shows in a file of half a second."""


def read_inputs(files: Mapping[str, Path], inputs: FurtherInputs) -> dict[str, InputArray]:
    """Reads a recording's further inputs by name, as `given_frames.read_array` does; what has no file is left out."""
    return {given.name: _named(given, read_array, files[given.name]) for given in inputs if given.name in files}


def checked_inputs(arrays: Mapping[str, Any], inputs: FurtherInputs) -> dict[str, InputArray]:
    """What `read_inputs` does, for arrays in memory; what is None is left out."""
    return {
        given.name: _named(given, checked_array, arrays[given.name])
        for given in inputs
        if arrays[given.name] is not None
    }


def check_durations(found: Mapping[str, InputArray], inputs: FurtherInputs, duration_s: float) -> None:
    """Raises RecordingError where frames do not last about as long as their file's sound, of this duration."""
    for given in inputs:
        if given.frames_per_second is None or given.name not in found:
            continue
        lasts_s = len(found[given.name]) / given.frames_per_second
        if abs(lasts_s - duration_s) > _TOLERANCE_S + _TOLERANCE * duration_s:
            raise RecordingError(
                f"input {given.name}: at {given.frames_per_second:g} frames per second it does not last as long as the "
                "sound"
            )


def input_arrays(
    found: Mapping[str, InputArray], inputs: FurtherInputs, features: Features, start_s: float, length: int
) -> dict[str, InputArray]:
    """What networks read of a recording's further inputs, each of its `FurtherInput.shape`; NaN where it is missing.

    Frames are those that lie nearest to the sound's chunks. Where frames end before the recording does, and where that
    is shorter than a chunk, the last one that it has stands on.

    Args:
      found: of the recording's whole file.
      start_s: where the recording begins in it, in seconds.
      length: the recording's, in samples or given frames, of which there are `features.source_rate` per second.
    """
    arrays = {}
    for given in inputs:
        shape = given.shape(features)
        if given.name not in found:
            arrays[given.name] = np.full(shape, np.nan, np.float32)
        elif (rate := given.frames_per_second) is None:
            arrays[given.name] = found[given.name]
        else:
            whole = found[given.name]
            starts_s = start_s + np.arange(shape[0]) * chunk_step(length, features) / features.frames_per_second
            frames = np.rint(starts_s * rate).astype(int)[:, None] + np.arange(shape[1])
            after = round((start_s + length / features.source_rate) * rate)
            arrays[given.name] = whole[frames.clip(max=max(min(after, len(whole)) - 1, 0))]
    return arrays


def _named(given: FurtherInput, read: Any, source: Any) -> InputArray:
    try:
        return read(source, given.numbers, given.frames_per_second)
    except RecordingError as error:
        raise RecordingError(f"input {given.name}: {error}") from None
