"""What the project is measured against, written from the libraries' public interfaces."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from emocluster_jax.benchmark.cases import Contender, Device


def torch_contenders(entry: str, work: Mapping[str, Any], device: Device, quick: bool) -> tuple[Contender, ...]:
    """PyTorch in the ways that suit the device: as it is, with malloc tuned on a CPU, and compiled.

    Args:
      entry: "module:function" of this package.
      work: the function's arguments, but for `device` and `compiled`.
      device: what this project computes on; PyTorch takes no part where that is a TPU.
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
