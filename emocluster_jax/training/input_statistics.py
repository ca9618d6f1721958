"""Mean and deviation of further inputs over a split: the network normalises their vectors, or frames, by these."""

from __future__ import annotations

import math
from collections.abc import Collection

import jax
import numpy as np
from jaxtyping import Float

from emocluster_jax.errors import InputError
from emocluster_jax.feed.split import Split, mask_name, rows_on_host
from emocluster_jax.models.fusion import InputStatistics
from emocluster_jax.runtime import parallel


class _Moments:
    """Of an input's vectors, or the frames of its chunks, on each of this process's devices."""

    def __init__(self, length: int) -> None:
        devices = jax.local_device_count()
        self.count = np.zeros((devices, 1))
        self.total, self.square = np.zeros((devices, length)), np.zeros((devices, length))

    def add(self, rows: Float[np.ndarray, "devices n *frames dims"], present: Float[np.ndarray, "devices n"]) -> None:
        self.count += math.prod(rows.shape[2:-1]) * present.sum(axis=1, keepdims=True)
        # Zeros where there is none.
        vectors = rows.astype(np.float64).reshape(len(rows), -1, rows.shape[-1])
        self.total += vectors.sum(axis=1)
        self.square += np.square(vectors).sum(axis=1)

    def of_all_devices(self) -> tuple[float, Float[np.ndarray, " dims"], Float[np.ndarray, " dims"]]:
        """Number, mean and deviation over the devices of all processes, which exchange float32 numbers.

        Deviations from each device's own mean lose no digits by that, where squares would.
        """
        mean = self.total / np.maximum(self.count, 1)
        deviations = self.square - self.count * np.square(mean)
        own = np.concatenate([self.count, mean, deviations], axis=1).astype(np.float32)
        rows = parallel.collect(parallel.deal(own[:, None]), jax.device_count()).astype(np.float64)
        counts, (means, deviations) = rows[:, :1], np.split(rows[:, 1:], 2, axis=1)
        count = counts.sum()
        mean = (counts * means).sum(axis=0) / max(count, 1)
        variance = (deviations + counts * np.square(means - mean)).sum(axis=0) / max(count, 1)
        return float(count), mean, np.sqrt(variance.clip(min=0))


def input_statistics(split: Split, names: Collection[str], title: str) -> dict[str, InputStatistics]:
    """Mean and population standard deviation of what recordings of the split have of each input; 1 instead of 0.

    Raises InputError if none has an input; `title` is the split's name.
    """
    moments: dict[str, _Moments] = {}
    for rows in rows_on_host(split, [*names, *map(mask_name, names)]):
        for name in names:
            moments.setdefault(name, _Moments(rows[name].shape[-1])).add(rows[name], rows[mask_name(name)])
    found = {}
    for name, of in moments.items():
        count, mean, std = of.of_all_devices()
        if not count:
            raise InputError(
                f"no recording of the {title} split has the input {name}; leave it out of `inputs`, or prepare "
                "recordings with it"
            )
        found[name] = mean.astype(np.float32), np.where(std > 0, std, 1).astype(np.float32)
    return found
