"""The peers, which use their libraries' public interfaces."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from emocluster_jax.benchmark.cases import Contender, Device


def torch_contenders(entry: str, work: Mapping[str, Any], device: Device, quick: bool) -> tuple[Contender, ...]:
    """PyTorch in the ways that suit the device: plain, on a CPU with malloc tuned, and compiled.

    Args:
      entry: "module:function" in this package.
      work: the function's arguments, except `device` and `compiled`.
      device: what this project computes on; PyTorch does not take part on a TPU.
      quick: leave out what takes long to prepare.
    """
    if device.platform not in ("cpu", "gpu"):
        return ()
    on_cpu = device.platform == "cpu"
    entry = f"{__name__}.{entry}"
    plain = {**work, "device": "cpu" if on_cpu else "cuda", "compiled": False}
    name = "PyTorch" if on_cpu else "PyTorch, mixed precision"
    found = [Contender(name, entry, plain)]
    if quick:
        return tuple(found)
    if on_cpu:
        found.append(Contender(f"{name}, malloc tuned", entry, plain, keeps_memory=True))
    found.append(Contender(f"{name}, torch.compile", entry, {**plain, "compiled": True}))
    return tuple(found)
