"""Frames that a corpus brings: a NumPy file a recording, frames by dimensions, as `numpy.save` writes it."""

from __future__ import annotations

import io
import math
import os
import stat
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

import numpy as np
from jaxtyping import Float, Shaped

from emocluster_jax.config import FRAME_RATE, GivenFeatures
from emocluster_jax.errors import InputError, RecordingError
from emocluster_jax.preprocessing.audio import LONGEST_S
from emocluster_jax.preprocessing.containers import is_known_container, is_npy

_MOST_VALUES = 1 << 28
"""Of a recording, which is held in memory as a whole: 1 GiB of float32, or an hour and a half of 50 frames of 1,000."""
_LONGEST_HEADER = 10_000
"""Bytes; those of arrays of numbers have 128."""
# Version 3 differs from 2 in the encoding of fields' names alone, which arrays of numbers have none of.
_HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
    (3, 0): np.lib.format.read_array_header_2_0,
}
_LARGEST = 1e18
"""A single recording of larger numbers, whose squares float32 does not hold, would decide on the statistics of all."""
_RATE_TOLERANCE = 1e-3
"""Rates this near to each other are the same: people round theirs."""


class FramesError(RecordingError):
    """Why given frames cannot be used."""


def read_frames(path: Path, features: GivenFeatures) -> Float[np.ndarray, "time dimensions"]:
    """Reads a recording's frames.

    The header is read first, and believed only where the file is as long as it says. Nothing is unpickled.

    Args:
      path: a NumPy file (.npy) of float16, float32 or float64, (frames, dimensions).
      features: the dimensions that are expected.

    Returns:
      float32.

    Raises:
      FramesError: the file is missing, empty, truncated, no NumPy file, of other dimensions or types, not finite, or
        too long.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise FramesError("not a file")
        with path.open("rb") as file:
            shape, by_columns, dtype = _header(file)
            _check_form(shape, dtype, features)
            frames = np.fromfile(file, dtype, math.prod(shape)).reshape(shape, order="F" if by_columns else "C")
    except FileNotFoundError:
        raise FramesError("no such file") from None
    except OSError as error:
        raise FramesError(f"cannot be read: {(error.strerror or str(error)).lower()}") from None
    return _finite(frames)


def checked_frames(
    frames: Shaped[np.ndarray, " ..."], frames_per_second: float, features: GivenFeatures
) -> Float[np.ndarray, "time dimensions"]:
    """What `read_frames` does, for frames in memory.

    Raises:
      FramesError: another rate than that of `features`, or as `read_frames`.
    """
    try:
        FRAME_RATE.check("the number of frames per second", frames_per_second)
    except InputError as error:
        raise FramesError(str(error)) from None
    if not math.isclose(frames_per_second, features.frames_per_second, rel_tol=_RATE_TOLERANCE):
        raise FramesError(f"{frames_per_second:g} frames a second; expected {features.frames_per_second:g}")
    frames = np.asarray(frames)
    _check_form(frames.shape, frames.dtype, features)
    return _finite(frames)


def most_frequent_dimensions(paths: Iterable[Path]) -> int | None:
    """Numbers a frame in most of these files, by their headers; None where not one of them has frames."""
    shapes = filter(None, map(shape_of, paths))
    found = Counter(shape[1] for shape in shapes if len(shape) == 2)
    return max(found, key=lambda dimensions: (found[dimensions], dimensions), default=None)


def shape_of(path: Path) -> tuple[int, ...] | None:
    """Shape of the array in a NumPy file, by its header; None where there is none that can be read."""
    try:
        if stat.S_ISREG(path.stat().st_mode):
            with path.open("rb") as file:
                return _header(file)[0]
    except (OSError, FramesError):
        pass
    return None


def _header(file: BinaryIO) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Shape, whether columns lie together, and type; leaves the file where its data begin.

    Raises:
      FramesError: there is none, or the data are not as long as it says.
    """
    if not file.read(1):
        raise FramesError("empty file")
    if not is_npy(file):
        raise FramesError("audio, and features (.npy) are expected" if is_known_container(file) else "no NumPy file")
    file.seek(0)
    # Not from the file itself: a length of 4 GB in the header would be allocated.
    start = io.BytesIO(file.read(_LONGEST_HEADER))
    try:
        shape, by_columns, dtype = _HEADERS[np.lib.format.read_magic(start)](start)
    except Exception:
        # NumPy parses it as a Python literal, which raises many types where it is none.
        raise FramesError("its header is damaged or truncated") from None
    if dtype.hasobject:
        raise FramesError("pickled objects; expected float16, float32 or float64")
    file.seek(start.tell())
    there = os.fstat(file.fileno()).st_size - file.tell()
    promised = math.prod(shape) * dtype.itemsize
    if there != promised:
        raise FramesError("truncated: the file ends before its data do" if there < promised else "data behind its end")
    return shape, by_columns, dtype


def _check_form(shape: tuple[int, ...], dtype: np.dtype, features: GivenFeatures) -> None:
    if not np.issubdtype(dtype, np.floating) or dtype.itemsize > 8:
        raise FramesError(f"numbers of type {dtype}; expected float16, float32 or float64")
    if len(shape) != 2:
        raise FramesError(f"an array of shape {shape}; expected (frames, {features.dimensions})")
    if shape[1] != features.dimensions:
        # Without their number, which differs: the summary counts recordings by reason.
        raise FramesError(f"frames of {shape[1]} numbers; expected (frames, {features.dimensions})")
    if not shape[0]:
        raise FramesError("no frames")
    if shape[0] > LONGEST_S * features.frames_per_second or math.prod(shape) > _MOST_VALUES:
        raise FramesError(f"longer than {LONGEST_S / 3600:g} hours or {_MOST_VALUES} numbers")


def _finite(frames: Shaped[np.ndarray, "time dimensions"]) -> Float[np.ndarray, "time dimensions"]:
    if not np.isfinite(frames).all():
        raise FramesError("NaN or infinite numbers")
    if max(float(frames.max()), -float(frames.min())) > _LARGEST:
        raise FramesError(f"numbers beyond {_LARGEST:g}")
    return np.ascontiguousarray(frames, np.float32)
