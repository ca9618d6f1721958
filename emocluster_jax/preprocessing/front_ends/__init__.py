"""Frames that another library makes of a signal; each library is a module here, of the name by which settings know it.

A module has `settings(name, layer)`, which finds what a request names and returns its `FrontEndFeatures`; `load`, which
makes of these an `Encode`, once it has found the same version or weights; `uses_gpu()`, where one process suffices; and
`NOTICE`, what people are to know of it, or "".

A frame depends on all samples that the front end is given at once. So a recording of up to `WHOLE_S` is one piece, and
a longer one is cut at fixed places into parts, each given with `CONTEXT_S` more on both sides. Nothing is padded, and
no two recordings go together: a recording's frames are the same however it is decoded, and whatever else is.
"""

from __future__ import annotations

import importlib
import threading
from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from emocluster_jax.config import FrontEndFeatures, FrontEndName
from emocluster_jax.errors import RecordingError
from emocluster_jax.preprocessing.given_frames import MOST_VALUES, finite_numbers

WHOLE_S, PART_S, CONTEXT_S = 30, 20, 5

Encode = Callable[[Float[np.ndarray, " samples"]], Float[np.ndarray, "frames dimensions"]]
"""Makes frames of a signal with a peak of 1 at most, at `FrontEndFeatures.sample_rate_hz`; threads may share it."""

_loading = threading.Lock()


class Part(NamedTuple):
    """Frames of a recording, from `first` up to, but not including, `last`, and the samples that they are made of."""

    first: int
    last: int
    start: int
    end: int


def library(name: FrontEndName) -> Any:
    """The module of a library; it imports the library itself only in its functions."""
    return importlib.import_module(f"{__name__}.{name}")


def loaded(features: FrontEndFeatures) -> Encode:
    """What makes these frames, loaded once per process; InputError if it is not installed, not there or another one."""
    with _loading:
        return _load(features)


@lru_cache(maxsize=2)
def _load(features: FrontEndFeatures) -> Encode:
    return library(features.library).load(features)


def count_frames(samples: int, features: FrontEndFeatures) -> int:
    """Frames of so many samples; RecordingError if they do not make one."""
    if samples < features.window_size:
        shortest = features.window_size / features.sample_rate_hz
        raise RecordingError(f"shorter than {shortest:g} s, which one frame of {features.library} takes")
    return (samples - features.window_size) // features.hop_size + 1


def parts_of(samples: int, features: FrontEndFeatures) -> list[Part]:
    """The parts of a recording; RecordingError if it is too short for a frame."""
    frames, hop = count_frames(samples, features), features.hop_size
    if samples <= WHOLE_S * features.sample_rate_hz:
        return [Part(0, frames, 0, samples)]
    length, context = (seconds * features.sample_rate_hz // hop for seconds in (PART_S, CONTEXT_S))
    parts = []
    for first in range(0, frames, length):
        last = min(first + length, frames)
        end = (last - 1 + context) * hop + features.window_size
        parts.append(Part(first, last, max(first - context, 0) * hop, min(end, samples)))
    return parts


def part_frames(
    signal: Float[np.ndarray, " samples"], part: Part, features: FrontEndFeatures
) -> Float[np.ndarray, "frames dimensions"]:
    """The frames of a part, made of its samples; RecordingError if they are not finite."""
    frames = loaded(features)(signal)
    expected = count_frames(len(signal), features), features.dimensions
    if frames.shape != expected:
        raise RecordingError(f"{features.library} made frames of shape {frames.shape}; expected {expected}")
    before = part.first - part.start // features.hop_size
    return finite_numbers(frames[before : before + part.last - part.first])


def all_frames(
    signal: Float[np.ndarray, " samples"], features: FrontEndFeatures
) -> Float[np.ndarray, "frames dimensions"]:
    """All frames of a signal in memory; RecordingError if it is too short or too long, or they are not finite."""
    parts = parts_of(len(signal), features)
    if (count := parts[-1].last) * features.dimensions > MOST_VALUES:
        raise RecordingError(f"longer than {MOST_VALUES} numbers of {features.library}")
    frames = np.empty((count, features.dimensions), np.float32)
    for part in parts:
        frames[part.first : part.last] = part_frames(signal[part.start : part.end], part, features)
    return frames
