"""NumPy files of a corpus: frames, (frames, dimensions), in place of a recording's audio or beside it, and vectors."""

from __future__ import annotations

import io
import math
import os
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

import numpy as np
from jaxtyping import Float, Float32, Shaped

from emocluster_jax.config import FRAME_RATE, GivenFeatures
from emocluster_jax.errors import InputError, RecordingError
from emocluster_jax.preprocessing.audio import LONGEST_S
from emocluster_jax.preprocessing.containers import is_known_container, is_npy
from emocluster_jax.preprocessing.file_contents import CUT_SHORT, opened

MOST_VALUES = 1 << 28
"""The most numbers per recording, held in memory: 1 GiB of float32, or 1.5 hours of 50 frames/s of 1,000 numbers."""
_LONGEST_HEADER = 10_000
"""In bytes; arrays of numbers have headers of 128."""
# Version 3 differs from 2 only in the encoding of field names, which arrays of numbers do not have.
_HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
    (3, 0): np.lib.format.read_array_header_2_0,
}
_LARGEST = 1e18
"""Squares of larger numbers exceed float32, and a single recording of them would dominate all statistics."""
_RATE_TOLERANCE = 1e-3
"""Rates this close to each other count as the same, since people round them."""


def read_array(path: Path, numbers: int, frames_per_second: float | None = None) -> Float32[np.ndarray, " ..."]:
    """Reads a vector, (numbers,), or frames that have a rate, (frames, numbers), as float32.

    They are in a NumPy file (.npy) of float16, float32 or float64. Its header is read first, and trusted only if the
    file has the length that it gives. Nothing is unpickled.

    Raises:
      RecordingError: the file is missing, empty, truncated, not a NumPy file, of other dimensions or types, not finite,
        or too long.
    """
    with opened(path) as file:
        shape, by_columns, dtype = _header(file)
        _check_form(shape, dtype, numbers, frames_per_second)
        return finite_numbers(
            np.fromfile(file, dtype, math.prod(shape)).reshape(shape, order="F" if by_columns else "C")
        )


def checked_array(
    array: Shaped[np.ndarray, " ..."], numbers: int, frames_per_second: float | None = None
) -> Float32[np.ndarray, " ..."]:
    """What `read_array` does, for an array in memory."""
    try:
        array = np.asarray(array)
    except ValueError:  # lists of several lengths
        raise RecordingError("not an array of numbers") from None
    _check_form(array.shape, array.dtype, numbers, frames_per_second)
    return finite_numbers(array)


def most_frequent_numbers(paths: Iterable[Path], *, of_frames: bool) -> int | None:
    """How many numbers most of these files' vectors, or frames, have, by their headers; None if there are none."""
    axes = 2 if of_frames else 1
    found = Counter(shape[-1] for shape in filter(None, map(shape_of, paths)) if len(shape) == axes)
    return max(found, key=lambda size: (found[size], size), default=None)


def checked_frames(
    frames: Shaped[np.ndarray, " ..."], frames_per_second: float, features: GivenFeatures
) -> Float[np.ndarray, "time dimensions"]:
    """Frames in memory as `read_array` reads them; refuses another rate than that of `features`."""
    try:
        FRAME_RATE.check("the number of frames per second", frames_per_second)
    except InputError as error:
        raise RecordingError(str(error)) from None
    if not math.isclose(frames_per_second, features.frames_per_second, rel_tol=_RATE_TOLERANCE):
        raise RecordingError(f"{frames_per_second:g} frames per second; expected {features.frames_per_second:g}")
    return checked_array(frames, features.dimensions, features.frames_per_second)


def shape_of(path: Path) -> tuple[int, ...] | None:
    """The shape in a NumPy file's header; None if it cannot be read."""
    try:
        with opened(path) as file:
            return _header(file)[0]
    except RecordingError:
        return None


def _header(file: BinaryIO) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Reads the shape, whether the array is stored by columns, and the type; leaves the file where its data begin."""
    if not file.read(1):
        raise RecordingError("empty file")
    if not is_npy(file):
        raise RecordingError("audio, and features (.npy) are expected" if is_known_container(file) else "no NumPy file")
    file.seek(0)
    # Not from the file itself: NumPy would allocate 4 GB if a header claims that length.
    start = io.BytesIO(file.read(_LONGEST_HEADER))
    try:
        shape, by_columns, dtype = _HEADERS[np.lib.format.read_magic(start)](start)
    except Exception:
        # NumPy parses it as a Python literal and raises many types of errors.
        raise RecordingError("its header is damaged or truncated") from None
    if dtype.hasobject:
        raise RecordingError("pickled objects; expected float16, float32 or float64")
    file.seek(start.tell())
    there = os.fstat(file.fileno()).st_size - file.tell()
    promised = math.prod(shape) * dtype.itemsize
    if there != promised:
        raise RecordingError(CUT_SHORT if there < promised else "data behind its end")
    return shape, by_columns, dtype


def _check_form(shape: tuple[int, ...], dtype: np.dtype, numbers: int, frames_per_second: float | None) -> None:
    """Raises RecordingError for what is not a vector of so many numbers or, with a rate, are not frames of them."""
    if not np.issubdtype(dtype, np.floating) or dtype.itemsize > 8:
        raise RecordingError(f"numbers of type {dtype}; expected float16, float32 or float64")
    if frames_per_second is None:
        if shape != (numbers,):
            raise RecordingError(f"an array of shape {shape}; expected ({numbers},)")
        return
    if len(shape) != 2:
        raise RecordingError(f"an array of shape {shape}; expected (frames, {numbers})")
    if shape[1] != numbers:
        # Recordings are counted by reason, so it does not include their number of frames.
        raise RecordingError(f"frames of {shape[1]} numbers; expected (frames, {numbers})")
    if not shape[0]:
        raise RecordingError("no frames")
    if shape[0] > LONGEST_S * frames_per_second or math.prod(shape) > MOST_VALUES:
        raise RecordingError(f"longer than {LONGEST_S / 3600:g} hours or {MOST_VALUES} numbers")


def finite_numbers(numbers: Shaped[np.ndarray, "*shape"]) -> Float32[np.ndarray, "*shape"]:
    """The numbers as float32; RecordingError if one is NaN, infinite, or absurdly large."""
    if not np.isfinite(numbers).all():
        raise RecordingError("NaN or infinite numbers")
    if max(float(numbers.max()), -float(numbers.min())) > _LARGEST:
        raise RecordingError(f"numbers beyond {_LARGEST:g}")
    return np.ascontiguousarray(numbers, np.float32)
