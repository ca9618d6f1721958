"""`python -m launch.benchmark`: how fast this project is here, beside its peers in the same run."""

from __future__ import annotations

import dataclasses
import importlib
import json
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import tyro

from emocluster_jax.errors import InputError
from emocluster_jax.ranges import Range, within
from emocluster_jax.settings import Checked
from emocluster_jax.storage.disk import check_output_file
from launch import command
from launch.options import parse

if TYPE_CHECKING:
    from emocluster_jax.benchmark.measurement import Row
    from emocluster_jax.console import Console

DESCRIPTION = """Check a device against plain layers, and measure training steps, embedding, K-means, whole epochs,
streaming, preparation or prediction on random data, each beside its peers (PyTorch, faiss, ONNX Runtime, scikit-learn,
librosa), as far as the extra `bench` is installed; the memory that much preparation and prediction takes; and which
kernels take how long."""


@dataclass(frozen=True)
class Options(Checked):
    """What to measure, and how."""

    suites: tyro.conf.Positional[
        tuple[
            Literal[
                "parity", "train", "embed", "kmeans", "epoch", "feed", "prepare", "predict", "memory", "profile", "all"
            ],
            ...,
        ]
    ] = ()
    """One or several; `all` takes about an hour on a laptop. [required]"""
    output: Path | None = None
    """Also write the results to this file as they come: JSON lines, one per case and peer."""
    case: str = ""
    """Only the cases with this in their name, e.g. "352 chunks"."""
    without: tuple[str, ...] = ()
    """Leave out the peers with one of these in their name, e.g. torch.compile, which takes a minute to prepare."""
    peer_seconds: float = field(default=120, metadata=within(Range(float, 1, 100_000)))
    """Leave out a peer that has not imported, compiled and warmed up within so many seconds."""
    repetitions: int = field(default=5, metadata=within(Range(int, 1, 100_000)))
    """Repetitions of each case, alternating with its peers; medians are reported."""
    minutes: float | None = field(default=None, metadata=within(Range(float, 0, 100_000)))
    """Begin no further case after so many minutes, and name what is left out."""
    quick: bool = False
    """Use tiny sizes, to check that everything works; the figures mean nothing."""
    quiet: bool = False
    """Print nothing but warnings and errors."""


def benchmark(options: Options, console: Console) -> list[Row]:
    """Measures, prints and writes.

    Raises:
      InputError: what is wrong with the request, or what made this project's own side fail.
    """
    from emocluster_jax.benchmark.cases import SUITES
    from emocluster_jax.benchmark.measurement import measure
    from emocluster_jax.benchmark.worker import UnavailableError, device

    if not options.suites:
        raise InputError(f"no suite is named; give one or more of {', '.join(SUITES)}, or all")
    if options.output is not None:
        check_output_file("--output", options.output)
    here = device()
    suites = [suite for suite in SUITES if suite in options.suites or "all" in options.suites]
    found = []
    for suite in suites:
        module = importlib.import_module(f"emocluster_jax.benchmark.{SUITES[suite]}")
        found += getattr(module, f"{suite}_cases")(here, options.quick)
    cases = [case for case in found if options.case in case.name]
    if not cases:
        raise InputError(f"no case of {', '.join(suites)} contains {options.case!r} in its name; leave --case out")
    rows, started = [], time.monotonic()
    with options.output.open("w", encoding="utf-8") if options.output else nullcontext() as file:
        for case in cases:
            if options.minutes is not None and time.monotonic() - started > 60 * options.minutes:
                console.warn(f"{case.suite}: {case.name}: left out, as {options.minutes:g} minutes are over")
                continue
            peers = tuple(peer for peer in case.peers if not any(name in peer.name for name in options.without))
            try:
                compared = dataclasses.replace(case, peers=peers)
                measured = measure(compared, here, options.repetitions, console, options.peer_seconds)
            except UnavailableError as error:
                raise InputError(f"{case.suite}, {case.name}: {error}") from None
            rows += measured
            if file is not None:
                file.writelines(json.dumps(dataclasses.asdict(row)) + "\n" for row in measured)
                file.flush()
            _summarize(measured, console)
    if len(cases) > 1:
        _conclude(rows, console)
    return rows


def _summarize(rows: Sequence[Row], console: Console) -> None:
    first, peers = rows[0], [row for row in rows if row.peer is not None]
    compared = [(row.peer, row.peer_seconds, row.ratio, *(row.ratio_range or (None, None))) for row in peers]
    console.table(
        first.suite,
        (f"{first.case} ({first.device})", "seconds", "ratio", "lowest", "highest"),
        [
            (name, _seconds(seconds), *ratios)
            for name, seconds, *ratios in [("emocluster_jax", first.seconds, None, None, None), *compared]
        ],
    )
    for name, figures in [("emocluster_jax", first.figures), *((row.peer, row.peer_figures) for row in rows)]:
        if figures:
            console.line(f"{name}: " + ", ".join(f"{figure} {value:.6g}" for figure, value in figures.items()))
    if first.compile_seconds is not None:
        cached = first.cached_compile_seconds
        from_cache = "" if cached is None else f", {cached:.1f} s from the cache"
        console.line(f"compilation {first.compile_seconds:.1f} s{from_cache}")
    console.line(f"peak memory {first.peak_bytes / 1e6:,.0f} MB, {first.repetitions} repetitions")


def _conclude(rows: Sequence[Row], console: Console) -> None:
    """All cases in one table."""
    lines = [
        (
            f"{row.suite}: {row.case}",
            _seconds(row.seconds),
            row.peer or "-",
            _seconds(row.peer_seconds),
            row.ratio,
            _seconds(row.compile_seconds),
            _seconds(row.cached_compile_seconds),
            f"{row.peak_bytes / 1e9:.2f}",
        )
        for row in rows
    ]
    heads = ("case", "seconds", "peer", "its seconds", "ratio", "compilation", "cached", "peak GB")
    console.table(f"All on {rows[0].device}" if rows else "Nothing was measured", heads, lines)


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


def main() -> None:
    options = parse(Options, "benchmark", DESCRIPTION, "train embed --output benchmark.jsonl")
    benchmark(options, command.console(options.quiet))


if __name__ == "__main__":
    command.run(main)
