"""Repetitions of a case by all contenders in turn, and the medians of them."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from statistics import median

from emocluster_jax.benchmark.cases import Case, Device, Row
from emocluster_jax.benchmark.worker import Readiness, UnavailableError, Worker, working
from emocluster_jax.console import Console

Repetitions = list[tuple[float, dict[str, float]]]


def measure(case: Case, device: Device, repetitions: int, console: Console) -> list[Row]:
    """The case beside each of its peers; one row without a peer where none can take part.

    Repetitions alternate (ours, a peer, the next peer, ours again), so that a machine that slows down, or another
    program on it, meets all of them alike.

    Args:
      case: what to do.
      device: what this project computes on.
      repetitions: of each contender, unless the case needs but one.
      console: shows how far it is, and which peers were skipped.

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
    return Row(
        suite=case.suite,
        case=case.name,
        device=device.name,
        seconds=seconds,
        peer=None,
        peer_seconds=None,
        ratio=None,
        ratio_range=None,
        repetitions=len(own),
        compile_seconds=readiness.compile_seconds,
        cached_compile_seconds=readiness.cached_compile_seconds,
        peak_bytes=peak_bytes,
        figures=figures,
        peer_figures={},
    )


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
