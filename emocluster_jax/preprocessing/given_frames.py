"""NumPy files of a corpus: a recording's frames, (frames, dimensions), in place of audio, or a vector as an input."""

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


def read_frames(path: Path, features: GivenFeatures) -> Float[np.ndarray, "time dimensions"]:
    """Reads a recording's frames from a NumPy file (.npy) of float16, float32 or float64, as float32.

    The header is read first, and trusted only if the file has the length that it gives. Nothing is unpickled.

    Raises:
      RecordingError: the file is missing, empty, truncated, not a NumPy file, of other dimensions or types, not finite,
        or too long.
    """
    return _read(path, features)


def read_vectors(files: Mapping[str, Path], sizes: InputSizes) -> dict[str, Float32[np.ndarray, " length"]]:
    """Reads a recording's further inputs, each a NumPy file of float16, float32 or float64, (length,).

    An input without a file is NaN throughout.

    Raises:
      RecordingError: as of `read_frames`, or a vector has another length.
    """
    vectors = {}
    for name, length in sizes:
        try:
            vectors[name] = _read(files[name], length) if name in files else np.full(length, np.nan, np.float32)
        except RecordingError as error:
            raise RecordingError(f"input {name}: {error}") from None
    return vectors


def checked_vector(vector: Shaped[np.ndarray, " ..."], length: int) -> Float32[np.ndarray, " length"]:
    """What `read_vectors` does, for a vector in memory."""
    vector = np.asarray(vector)
    _check_form(vector.shape, vector.dtype, length)
    return finite_numbers(vector)


def vector_length(paths: Iterable[Path]) -> int | None:
    """The most frequent length of the vectors in these files, by their headers; None if none of them has one."""
    lengths = (shape[0] for shape in filter(None, map(shape_of, paths)) if len(shape) == 1)
    return _most_frequent(length for length in lengths if LENGTH.lowest <= length <= LENGTH.highest)


def most_frequent_dimensions(paths: Iterable[Path]) -> int | None:
    """The most frequent number of dimensions in these files' headers; None if no file has frames."""
    return _most_frequent(shape[1] for shape in filter(None, map(shape_of, paths)) if len(shape) == 2)


def _most_frequent(sizes: Iterable[int]) -> int | None:
    found = Counter(sizes)
    return max(found, key=lambda size: (found[size], size), default=None)


def checked_frames(
    frames: Shaped[np.ndarray, " ..."], frames_per_second: float, features: GivenFeatures
) -> Float[np.ndarray, "time dimensions"]:
    """What `read_frames` does, for frames in memory; refuses another rate than that of `features`."""
    try:
        FRAME_RATE.check("the number of frames per second", frames_per_second)
    except InputError as error:
        raise RecordingError(str(error)) from None
    if not math.isclose(frames_per_second, features.frames_per_second, rel_tol=_RATE_TOLERANCE):
        raise RecordingError(f"{frames_per_second:g} frames per second; expected {features.frames_per_second:g}")
    frames = np.asarray(frames)
    _check_form(frames.shape, frames.dtype, features)
    return finite_numbers(frames)


def shape_of(path: Path) -> tuple[int, ...] | None:
    """The shape in a NumPy file's header; None if it cannot be read."""
    try:
        with opened(path) as file:
            return _header(file)[0]
    except RecordingError:
        return None


def _read(path: Path, expected: GivenFeatures | int) -> Float32[np.ndarray, "*shape"]:
    with opened(path) as file:
        shape, by_columns, dtype = _header(file)
        _check_form(shape, dtype, expected)
        return finite_numbers(
            np.fromfile(file, dtype, math.prod(shape)).reshape(shape, order="F" if by_columns else "C")
        )


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


def _check_form(shape: tuple[int, ...], dtype: np.dtype, expected: GivenFeatures | int) -> None:
    """Raises RecordingError for what are not these frames, or not a vector of this length."""
    if not np.issubdtype(dtype, np.floating) or dtype.itemsize > 8:
        raise RecordingError(f"numbers of type {dtype}; expected float16, float32 or float64")
    if isinstance(expected, int):
        if shape != (expected,):
            raise RecordingError(f"an array of shape {shape}; expected ({expected},)")
        return
    if len(shape) != 2:
        raise RecordingError(f"an array of shape {shape}; expected (frames, {expected.dimensions})")
    if shape[1] != expected.dimensions:
        # Recordings are counted by reason, so it does not include their number of frames.
        raise RecordingError(f"frames of {shape[1]} numbers; expected (frames, {expected.dimensions})")
    if not shape[0]:
        raise RecordingError("no frames")
    if shape[0] > LONGEST_S * expected.frames_per_second or math.prod(shape) > MOST_VALUES:
        raise RecordingError(f"longer than {LONGEST_S / 3600:g} hours or {MOST_VALUES} numbers")


def finite_numbers(numbers: Shaped[np.ndarray, "*shape"]) -> Float32[np.ndarray, "*shape"]:
    """The numbers as float32; RecordingError if one is NaN, infinite, or absurdly large."""
    if not np.isfinite(numbers).all():
        raise RecordingError("NaN or infinite numbers")
    if max(float(numbers.max()), -float(numbers.min())) > _LARGEST:
        raise RecordingError(f"numbers beyond {_LARGEST:g}")
    return np.ascontiguousarray(numbers, np.float32)
