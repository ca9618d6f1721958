"""Repeats a case by all contenders in turn, and takes medians."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from statistics import median

from emocluster_jax.benchmark.cases import Case, Device, Row
from emocluster_jax.benchmark.worker import Readiness, UnavailableError, Worker, working
from emocluster_jax.console import Console

Repetitions = list[tuple[float, dict[str, float]]]


def measure(case: Case, device: Device, repetitions: int, console: Console) -> list[Row]:
    """The case with each of its peers; one row without a peer if none can take part.

    Repetitions alternate (ours, a peer, the next peer, ours again), so that a machine that slows down, or another
    program on it, affects all of them alike.

    Args:
      case: what to do.
      device: what this project computes on.
      repetitions: per contender, unless one is enough for the case.
      console: shows progress, and which peers were skipped.

    Raises:
      UnavailableError: this project itself failed.
    """
    title = f"{case.suite}: {case.name}"
    repetitions = 1 if case.once else repetitions
    with ExitStack() as stack, console.task(title, repetitions) as task:
        task.describe("preparing")
        ours = stack.enter_context(working(case.ours))
        own: Repetitions = []
        others: dict[str, tuple[Worker, Repetitions]] = {}

        def skip(peer: str, reason: UnavailableError) -> None:
            console.warn(f"{title}: without {peer}: {reason}")
            others.pop(peer, None)

        for peer in case.peers:
            try:
                others[peer.name] = stack.enter_context(working(peer)), []
            except UnavailableError as reason:
                skip(peer.name, reason)
        for _ in range(repetitions):
            task.describe(case.ours.name)
            own.append(ours.repeat())
            for name, (worker, theirs) in list(others.items()):
                task.describe(name)
                try:
                    theirs.append(worker.repeat())
                except UnavailableError as reason:
                    skip(name, reason)
            task.advance()
        peak_bytes = ours.peak_bytes()
    alone = _without_peer(case, device, ours.readiness, own, peak_bytes)
    return [_beside(alone, name, own, theirs) for name, (_, theirs) in others.items()] or [alone]


def _without_peer(case: Case, device: Device, readiness: Readiness, own: Repetitions, peak_bytes: int) -> Row:
    seconds = median(time for time, _ in own)
    figures = dict(own[-1][1])
    if readiness.floor_seconds is not None:
        figures["share of bandwidth floor"] = readiness.floor_seconds / seconds
    compilation = readiness.compile_seconds, readiness.cached_compile_seconds
    return Row(case.suite, case.name, device.name, seconds, len(own), *compilation, peak_bytes, figures)


def _beside(alone: Row, peer: str, own: Repetitions, theirs: Repetitions) -> Row:
    peer_seconds = median(time for time, _ in theirs)
    ratios = [their_time / own_time for (their_time, _), (own_time, _) in zip(theirs, own, strict=True)]
    return replace(
        alone,
        peer=peer,
        peer_seconds=peer_seconds,
        ratio=peer_seconds / alone.seconds,
        ratio_range=(min(ratios), max(ratios)),
        peer_figures=theirs[-1][1],
    )
