"""Which kernels a program spends its time in, from JAX's profiler."""

from __future__ import annotations

import gzip
import json
import tempfile
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax

from emocluster_jax.benchmark.cases import Case, Device, Prepared, ours
from emocluster_jax.benchmark.network_suites import JointSteps, embedder, labelled_split
from emocluster_jax.benchmark.programs import model_config

_SHOWN = 12
"""Kernels that are named; the others are added up."""


def profile_cases(device: Device, quick: bool) -> list[Case]:
    """Steps and an embedding, in the type that the device is fastest in."""
    fastest = [name for name in device.arithmetic if device.platform == "cpu" or name != "float32"]
    work = {"recordings": 2 if quick else 64, "width_multiplier": 0.125 if quick else 1.0}
    chunks = 22 if quick else 176 if device.platform == "cpu" else 704
    steps = [
        Case(
            "profile",
            f"joint step, {chunks} chunks, {arithmetic}",
            ours(step, {**work, "chunks": chunks, "arithmetic": arithmetic}),
            once=True,
        )
        for arithmetic in fastest
    ]
    name = f"{11 * work['recordings']} chunks embedded, {fastest[0]}"
    return [*steps, Case("profile", name, ours(embedding, {**work, "arithmetic": fastest[0]}), once=True)]


def step(recordings: int, chunks: int, arithmetic: str, width_multiplier: float) -> Prepared:
    config = model_config(arithmetic, width_multiplier)
    split, work = labelled_split(recordings, seed=0), JointSteps(config, recordings, 1, chunks)
    return _profiled(lambda: work.run(split))


def embedding(recordings: int, arithmetic: str, width_multiplier: float) -> Prepared:
    config = model_config(arithmetic, width_multiplier)
    split, embed = labelled_split(recordings, seed=0), embedder(config)
    return _profiled(lambda: embed(split))


def _profiled(work: Callable[[], object]) -> Prepared:
    """Figures: milliseconds by kernel, the longest first, summed over its launches."""
    work()

    def repeat() -> dict[str, float]:
        with tempfile.TemporaryDirectory() as folder:
            with jax.profiler.trace(folder):
                work()
            (trace,) = Path(folder).rglob("*.trace.json.gz")
            found = kernels(json.loads(gzip.decompress(trace.read_bytes())))
        total, longest = sum(found.values()), sorted(found.items(), key=lambda kernel: -kernel[1])[:_SHOWN]
        return {**dict(longest), "others": total - sum(took for _, took in longest), "all": total}

    return Prepared(repeat)


def kernels(trace: dict[str, Any]) -> dict[str, float]:
    """Milliseconds by name of what accelerators ran, or on a machine without any, the threads of XLA's CPU client."""
    events = trace["traceEvents"]

    def named(kind: str) -> list[dict[str, Any]]:
        return [event for event in events if event.get("name") == kind]

    processes = {event["pid"]: event["args"]["name"] for event in named("process_name")}
    threads = {(event["pid"], event["tid"]): event["args"]["name"] for event in named("thread_name")}
    accelerators = {pid for pid, name in processes.items() if name.startswith("/device:")}
    found: dict[str, float] = defaultdict(float)
    for event in events:
        if "dur" not in event:
            continue
        thread = threads.get((event["pid"], event["tid"]), "")
        # A device's other threads repeat the same time by operation and by module.
        on_device = event["pid"] in accelerators and thread.startswith("Stream")
        on_host = not accelerators and thread.startswith("tf_XLA") and "::" not in event["name"]
        if on_device or on_host:
            found[event["name"]] += event["dur"] / 1_000
    return dict(found)
