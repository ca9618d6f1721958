"""What a benchmark consists of."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

SUITES = {
    "parity": "parity_suite",
    "train": "network_suites",
    "embed": "network_suites",
    "kmeans": "kmeans_suite",
    "epoch": "epoch_suite",
    "feed": "network_suites",
    "prepare": "preparation_suites",
    "predict": "predict_suite",
    "memory": "preparation_suites",
    "profile": "profile_suite",
}
"""By suite, the module of this package with `<suite>_cases(device, quick) -> list[Case]`."""


class Device(NamedTuple):
    """What this project computes on: "cpu", "gpu" or "tpu", and a name such as "CPU, 2 cores" or "NVIDIA H200"."""

    platform: str
    name: str
    kernels: bool = False
    """Whether it runs the kernels of this project."""

    @property
    def arithmetic(self) -> tuple[str, ...]:
        """How a network may be trained there; see `programs.model_config`."""
        types = ("float32",) if self.platform == "cpu" else ("float32", "bfloat16")
        return (*types, "bfloat16, fused") if self.kernels else types

    @property
    def torch(self) -> str | None:
        """PyTorch's name of it; None for a TPU, on which PyTorch does not take part."""
        return {"cpu": "cpu", "gpu": "cuda"}.get(self.platform)


@dataclass(frozen=True)
class Contender:
    """One way of doing a case's work, in a process of its own.

    Attributes:
      entry: "module:function" that takes `arguments` and returns `Prepared`. It is a name, so that the process can be
        set up before the module is imported.
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


def ours(
    function: Callable[..., Prepared], work: Mapping[str, Any], *, keeps_memory: bool = True, name: str = ""
) -> Contender:
    """This project's side of a case: a function of a suite's module, and its arguments."""
    return Contender(name or "emocluster_jax", f"{function.__module__}:{function.__name__}", work, keeps_memory)


def peer(name: str, entry: str, work: Mapping[str, Any], keeps_memory: bool = False) -> Contender:
    """A peer's side: "module:function" in the package `peers`, and its arguments."""
    return Contender(name, f"{__package__}.peers.{entry}", work, keeps_memory)


def torch_peers(entry: str, work: Mapping[str, Any], device: Device, quick: bool) -> tuple[Contender, ...]:
    """PyTorch in the ways that suit the device: plain, on a CPU with malloc tuned, and compiled.

    `work` are the function's arguments except `device` and `compiled`; `quick` leaves out what takes long to prepare.
    """
    if device.torch is None:
        return ()
    plain = {**work, "device": device.torch, "compiled": False}
    name = "PyTorch" if device.torch == "cpu" else "PyTorch, mixed precision"
    found = [peer(name, entry, plain)]
    if not quick and device.torch == "cpu":
        found.append(peer(f"{name}, malloc tuned", entry, plain, keeps_memory=True))
    if not quick:
        found.append(peer(f"{name}, torch.compile", entry, {**plain, "compiled": True}))
    return tuple(found)
