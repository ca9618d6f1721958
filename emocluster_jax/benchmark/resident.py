"""Memory as the system counts it."""

from __future__ import annotations

import sys


def resident_peak_bytes(workers: int = 0) -> int:
    """The largest resident size that this process has had, and `workers` times that of the largest that it has started.

    More than was held at any one time, as peaks do not coincide and libraries are counted in every process.
    """
    import resource  # not on Windows

    unit = 1 if sys.platform == "darwin" else 1024
    own, largest = (resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return unit * (own + workers * largest)
