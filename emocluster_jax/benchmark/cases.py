"""What a benchmark consists of, and its results."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

SUITES = ("train", "embed", "kmeans", "epoch", "feed", "prepare", "predict", "memory")
"""Each has a module `<suite>_suite` in this package with `cases(device, quick) -> list[Case]`."""


@dataclass(frozen=True)
class Device:
    """What this project computes on: "cpu", "gpu" or "tpu", and a name such as "CPU, 2 cores" or "NVIDIA H200"."""

    platform: str
    name: str


@dataclass(frozen=True)
class Contender:
    """One way of doing a case's work, in a process of its own.

    Attributes:
      name: as shown to people, e.g. "PyTorch".
      entry: "module:function" that takes `arguments` and returns `Prepared`. It is a name, so that the process can be
        set up before the module is imported.
      arguments: plain values.
      keeps_memory: whether the process calls `runtime.host.keep_freed_memory`, as this project's commands do.
    """

    name: str
    entry: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    keeps_memory: bool = False


@dataclass(frozen=True)
class Case:
    """The same work for this project and for its peers; with `once`, a single repetition is enough."""

    suite: str
    name: str
    ours: Contender
    peers: tuple[Contender, ...] = ()
    once: bool = False


@dataclass(frozen=True)
class Prepared:
    """Work that is ready to be repeated: data in place, compiled, warmed up.

    Attributes:
      repeat: does the work once, to its end; may return figures about the result, such as an objective.
      units: how many steps or recordings one repetition does; its seconds are divided by this.
      compile_seconds: tracing and compilation.
      cached_compile_seconds: the same if the persistent cache holds the program.
      floor_seconds: the time of one unit's memory traffic at the device's copy bandwidth; None if that is no limit.
      audio_seconds: of audio per repetition, to report "times real time"; 0 not to.
      peak_bytes: the most memory held so far; None for the device's if known, otherwise this process's.
      close: ends what still runs and removes temporary files.
    """

    repeat: Callable[[], Mapping[str, float] | None]
    units: float = 1.0
    compile_seconds: float | None = None
    cached_compile_seconds: float | None = None
    floor_seconds: float | None = None
    audio_seconds: float = 0.0
    peak_bytes: Callable[[], int] | None = None
    close: Callable[[], None] = lambda: None


@dataclass(frozen=True)
class Row:
    """One line of the results: a case, and one peer.

    Attributes:
      suite: of the case.
      case: its name.
      device: what this project ran on.
      seconds: median over the repetitions.
      repetitions: how many.
      compile_seconds: not part of `seconds`.
      cached_compile_seconds: the same with a warm persistent cache.
      peak_bytes: the device's if known, otherwise the largest resident size of our process; for preparation and in the
        suite memory always the resident size, including workers.
      figures: more about our result.
      peer: name of the peer; None if there is none.
      peer_seconds: the peer's median.
      ratio: peer_seconds / seconds.
      ratio_range: the lowest and the highest ratio of one repetition to the peer's that followed it.
      peer_figures: more about the peer's result.
    """

    suite: str
    case: str
    device: str
    seconds: float
    repetitions: int
    compile_seconds: float | None
    cached_compile_seconds: float | None
    peak_bytes: int
    figures: dict[str, float]
    peer: str | None = None
    peer_seconds: float | None = None
    ratio: float | None = None
    ratio_range: tuple[float, float] | None = None
    peer_figures: dict[str, float] = field(default_factory=dict)


def ours(function: Callable[..., Prepared], work: Mapping[str, Any], keeps_memory: bool = True) -> Contender:
    """This project's own side of a case: a function of a suite's module, and its arguments."""
    return Contender("emocluster_jax", f"{function.__module__}:{function.__name__}", work, keeps_memory)
