"""Statistics of mel bands, or of given features' dimensions, over a training split, and normalisation with them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

_ROUNDING = 1e-12


@dataclass(frozen=True)
class FrameMoments:
    """Count, mean and sum of squared deviations of a set of frames, per mel band, in float64."""

    count: int
    mean: Float[np.ndarray, " mel"]
    m2: Float[np.ndarray, " mel"]


@dataclass(frozen=True)
class Statistics:
    """Mean and population standard deviation, float32: of every mel band over the training frames, in units of power,
    or of every label over the training recordings."""

    mean: Float[np.ndarray, " n"]
    std: Float[np.ndarray, " n"]


def no_frames(bands: int) -> FrameMoments:
    """The moments of no frames, to start merging with."""
    return FrameMoments(0, np.zeros(bands), np.zeros(bands))


def frame_moments(mel: Float[np.ndarray, "time mel"]) -> FrameMoments:
    """The moments of one recording's frames (at least one)."""
    mel = np.asarray(mel, np.float64)
    mean = mel.mean(axis=0)
    return FrameMoments(len(mel), mean, ((mel - mean) ** 2).sum(axis=0))


def merge(a: FrameMoments, b: FrameMoments) -> FrameMoments:
    """The moments of two sets of frames together.

    Rounding depends on the order: the same bits need the same recordings, merged one by one in the same order.

    Source: Chan, Golub & LeVeque, "Updating formulae and a pairwise algorithm for computing sample variances", 1979.
    """
    if a.count == 0:
        return b
    count = a.count + b.count
    difference = b.mean - a.mean
    mean = a.mean + difference * (b.count / count)
    m2 = a.m2 + b.m2 + difference**2 * (a.count * b.count / count)
    return FrameMoments(count, mean, m2)


def feature_statistics(moments: FrameMoments) -> Statistics:
    """Mean and population standard deviation of one or more frames; the deviation of a constant band is 1."""
    std = np.sqrt(moments.m2 / moments.count)
    # Deviations within float64's rounding are 0: float32 values that differ at all deviate more.
    std = np.where(std > _ROUNDING * np.abs(moments.mean), std, 1.0).astype(np.float32)
    return Statistics(moments.mean.astype(np.float32), np.where(std > 0, std, np.float32(1)))


def normalize(mel: Float[np.ndarray, "time mel"], statistics: Statistics, clip: float) -> Float[np.ndarray, "time mel"]:
    """Subtracts each band's mean, divides by its deviation, replaces NaN by 0 and clips to ±`clip`; returns float32."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        normalized = (np.asarray(mel, np.float32) - statistics.mean) / statistics.std
    return np.clip(np.nan_to_num(normalized, copy=False, nan=0.0, posinf=clip, neginf=-clip), -clip, clip)
