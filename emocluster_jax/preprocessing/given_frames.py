"""Arrays that a corpus provides in NumPy files, as `numpy.save` writes them.

Either a recording's frames, (frames, dimensions), in place of audio, or a vector as a further input.
"""

from __future__ import annotations

import io
import math
import os
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import BinaryIO

import numpy as np
from jaxtyping import Float, Float32, Shaped

from emocluster_jax.config import FRAME_RATE, GivenFeatures
from emocluster_jax.corpora.inputs import LENGTH, InputSizes
from emocluster_jax.errors import InputError, RecordingError
from emocluster_jax.preprocessing.audio import LONGEST_S
from emocluster_jax.preprocessing.containers import is_known_container, is_npy
from emocluster_jax.preprocessing.file_contents import CUT_SHORT, opened

_MOST_VALUES = 1 << 28
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


def read_frames(path: Path, features: GivenFeatures) -> Float[np.ndarray, "time dimensions"]:
    """Reads a recording's frames from a NumPy file (.npy) of float16, float32 or float64, as float32.

    The header is read first, and trusted only if the file has the length that it gives. Nothing is unpickled.

    Raises:
      RecordingError: the file is missing, empty, truncated, not a NumPy file, of other dimensions or types, not finite,
        or too long.
    """
    with opened(path) as file:
        shape, by_columns, dtype = _header(file)
        _check_form(shape, dtype, features)
        frames = np.fromfile(file, dtype, math.prod(shape)).reshape(shape, order="F" if by_columns else "C")
    return _finite(frames)


def read_vectors(files: Mapping[str, Path], sizes: InputSizes) -> dict[str, Float32[np.ndarray, " length"]]:
    """Reads a recording's further inputs, each a NumPy file of float16, float32 or float64, (length,).

    Args:
      files: by name; of an input without one all numbers are NaN.
      sizes: the inputs to read.

    Raises:
      RecordingError: as of `read_frames`, or a vector has another length.
    """
    vectors = {}
    for name, length in sizes:
        vectors[name] = np.full(length, np.nan, np.float32)
        if name not in files:
            continue
        try:
            with opened(files[name]) as file:
                shape, _, dtype = _header(file)
                _check_vector(shape, dtype, length)
                vectors[name] = _finite(np.fromfile(file, dtype, length))
        except RecordingError as error:
            raise RecordingError(f"input {name}: {error}") from None
    return vectors


def checked_vector(vector: Shaped[np.ndarray, " ..."], length: int) -> Float32[np.ndarray, " length"]:
    """Does what `read_vectors` does for a vector in memory."""
    vector = np.asarray(vector)
    _check_vector(vector.shape, vector.dtype, length)
    return _finite(vector)


def vector_length(paths: Iterable[Path]) -> int | None:
    """The most frequent length of the vectors in these files, by their headers; None if none of them has one."""
    found = Counter(shape[0] for shape in filter(None, map(shape_of, paths)) if len(shape) == 1)
    allowed = [length for length in found if LENGTH.lowest <= length <= LENGTH.highest]
    return max(allowed, key=lambda length: (found[length], length), default=None)


def checked_frames(
    frames: Shaped[np.ndarray, " ..."], frames_per_second: float, features: GivenFeatures
) -> Float[np.ndarray, "time dimensions"]:
    """Does the same as `read_frames` for frames in memory, and refuses another rate than that of `features`."""
    try:
        FRAME_RATE.check("the number of frames per second", frames_per_second)
    except InputError as error:
        raise RecordingError(str(error)) from None
    if not math.isclose(frames_per_second, features.frames_per_second, rel_tol=_RATE_TOLERANCE):
        raise RecordingError(f"{frames_per_second:g} frames per second; expected {features.frames_per_second:g}")
    frames = np.asarray(frames)
    _check_form(frames.shape, frames.dtype, features)
    return _finite(frames)


def most_frequent_dimensions(paths: Iterable[Path]) -> int | None:
    """The most frequent number of dimensions in these files' headers; None if no file has frames."""
    shapes = filter(None, map(shape_of, paths))
    found = Counter(shape[1] for shape in shapes if len(shape) == 2)
    return max(found, key=lambda dimensions: (found[dimensions], dimensions), default=None)


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


def _check_form(shape: tuple[int, ...], dtype: np.dtype, features: GivenFeatures) -> None:
    _check_type(dtype)
    if len(shape) != 2:
        raise RecordingError(f"an array of shape {shape}; expected (frames, {features.dimensions})")
    if shape[1] != features.dimensions:
        # Recordings are counted by reason, so it does not include their number of frames.
        raise RecordingError(f"frames of {shape[1]} numbers; expected (frames, {features.dimensions})")
    if not shape[0]:
        raise RecordingError("no frames")
    if shape[0] > LONGEST_S * features.frames_per_second or math.prod(shape) > _MOST_VALUES:
        raise RecordingError(f"longer than {LONGEST_S / 3600:g} hours or {_MOST_VALUES} numbers")


def _check_vector(shape: tuple[int, ...], dtype: np.dtype, length: int) -> None:
    _check_type(dtype)
    if shape != (length,):
        raise RecordingError(f"an array of shape {shape}; expected ({length},)")


def _check_type(dtype: np.dtype) -> None:
    if not np.issubdtype(dtype, np.floating) or dtype.itemsize > 8:
        raise RecordingError(f"numbers of type {dtype}; expected float16, float32 or float64")


def _finite(numbers: Shaped[np.ndarray, "*shape"]) -> Float32[np.ndarray, "*shape"]:
    if not np.isfinite(numbers).all():
        raise RecordingError("NaN or infinite numbers")
    if max(float(numbers.max()), -float(numbers.min())) > _LARGEST:
        raise RecordingError(f"numbers beyond {_LARGEST:g}")
    return np.ascontiguousarray(numbers, np.float32)
