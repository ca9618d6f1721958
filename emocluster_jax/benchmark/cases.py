"""What a benchmark consists of, and what comes out of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

SUITES = ("train", "embed", "kmeans", "epoch", "feed", "prepare", "predict", "memory")
"""The modules of this package that have `cases(device, quick) -> list[Case]`."""


@dataclass(frozen=True)
class Device:
    """What this project computes on.

    Attributes:
      platform: "cpu", "gpu" or "tpu".
      name: for people, e.g. "CPU, 2 cores" or "NVIDIA H200".
    """

    platform: str
    name: str


@dataclass(frozen=True)
class Contender:
    """One way of doing a case's work; it runs in a process of its own.

    Attributes:
      name: for people, e.g. "PyTorch".
      entry: "module:function" of this package; the function takes `arguments` and returns `Prepared`. A name and not
        the function, so that the process can be set up before the module's imports.
      arguments: plain values.
      keeps_memory: whether the process calls `host_memory.keep_freed_memory`, as this project's commands do.
    """

    name: str
    entry: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    keeps_memory: bool = False


@dataclass(frozen=True)
class Case:
    """The same work for this project and for its peers.

    Attributes:
      suite: one of `SUITES`.
      name: of the work and its size.
      ours: this project.
      peers: what it is measured against.
      once: whether one repetition tells all there is to tell.
    """

    suite: str
    name: str
    ours: Contender
    peers: tuple[Contender, ...] = ()
    once: bool = False


@dataclass(frozen=True)
class Prepared:
    """Work that is ready to be repeated: data in place, compiled, warmed up.

    Attributes:
      repeat: does the work once, to its end, and returns what is to be told of the result (an objective, say).
      units: how many of what is counted (steps, recordings) one repetition does; seconds are divided by it.
      compile_seconds: tracing and compilation.
      cached_compile_seconds: the same in a process that finds the program in the persistent cache.
      floor_seconds: what one unit's memory traffic takes at the device's copy bandwidth; None where this is no limit.
      peak_bytes: the most memory that was held so far; None for this process's, or its device's where that tells.
      close: ends what still runs and removes what lies on the disk.
    """

    repeat: Callable[[], Mapping[str, float]]
    units: float = 1.0
    compile_seconds: float | None = None
    cached_compile_seconds: float | None = None
    floor_seconds: float | None = None
    peak_bytes: Callable[[], int] | None = None
    close: Callable[[], None] = lambda: None


@dataclass(frozen=True)
class Row:
    """One line of the results: a case beside one peer.

    Attributes:
      suite: of the case.
      case: its name.
      device: what this project ran on.
      seconds: median over the repetitions.
      peer: name of the peer; None where there is none.
      peer_seconds: its median.
      ratio: peer_seconds / seconds.
      ratio_range: the lowest and the highest ratio of a repetition to the peer's that followed it.
      repetitions: how many.
      compile_seconds: apart from `seconds`.
      cached_compile_seconds: the same with a warm persistent cache.
      peak_bytes: the device's, where it tells; else the largest resident size of our process, interpreter included; of
        a preparation and in the suite memory the resident size in any case, workers included.
      figures: what else is to be told of our result.
      peer_figures: likewise of the peer's.
    """

    suite: str
    case: str
    device: str
    seconds: float
    peer: str | None
    peer_seconds: float | None
    ratio: float | None
    ratio_range: tuple[float, float] | None
    repetitions: int
    compile_seconds: float | None
    cached_compile_seconds: float | None
    peak_bytes: int
    figures: dict[str, float]
    peer_figures: dict[str, float]
