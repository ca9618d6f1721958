"""Repeats a case by all contenders in turn, and takes medians."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from statistics import median

from emocluster_jax.benchmark.cases import Case, Contender, Device
from emocluster_jax.benchmark.worker import Repetition, UnavailableError, Worker, working
from emocluster_jax.console import Console


@dataclass(frozen=True)
class Row:
    """One line of the results: a case, and one peer.

    Attributes:
      seconds: median over the repetitions, without compilation.
      cached_compile_seconds: compilation with a warm persistent cache.
      peak_bytes: the device's if known, otherwise the largest resident size of our process; for preparation and in the
        suite memory always the resident size, including workers.
      figures: more about our result.
      peer: None if there is none.
      ratio: peer_seconds / seconds.
      ratio_range: the lowest and the highest ratio of one repetition to the peer's that followed it.
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


def measure(
    case: Case, device: Device, repetitions: int, console: Console, peer_seconds: float | None = None
) -> list[Row]:
    """The case with each of its peers; one row without a peer if none can take part.

    Repetitions alternate (ours, a peer, the next peer, ours again), so that a machine that slows down, or another
    program on it, affects all of them alike. Each side's first one is printed as soon as it is done. Peers that cannot
    take part, or are not ready within `peer_seconds`, are named in warnings.

    Raises:
      UnavailableError: this project itself failed.
    """
    title = f"{case.suite}: {case.name}"
    repetitions = 1 if case.once else repetitions
    workers: dict[str, Worker] = {}
    measured: dict[str, list[Repetition]] = {}

    @contextmanager
    def unless_unavailable(contender: Contender) -> Iterator[None]:
        try:
            yield
        except UnavailableError as reason:
            if contender is case.ours:
                raise
            console.warn(f"{title}: without {contender.name}: {reason}")
            measured.pop(contender.name, None)

    with ExitStack() as stack, console.task(title, repetitions) as task:
        task.describe("preparing")
        for contender in (case.ours, *case.peers):
            with unless_unavailable(contender):
                longest_s = None if contender is case.ours else peer_seconds
                workers[contender.name] = stack.enter_context(working(contender, longest_s))
                measured[contender.name] = []
        for number in range(repetitions):
            for contender in (case.ours, *case.peers):
                if contender.name in measured:
                    task.describe(contender.name)
                    with unless_unavailable(contender):
                        repetition = workers[contender.name].repeat()
                        measured[contender.name].append(repetition)
                        if number == 0:
                            console.line(f"{title}: {contender.name}: {repetition.seconds:.4g} s at first")
            task.advance()
    compile_seconds, cached, floor_seconds = workers[case.ours.name].readiness
    own = measured.pop(case.ours.name)
    seconds = median(repetition.seconds for repetition in own)
    figures = dict(own[-1].figures)
    if floor_seconds is not None:
        figures["share of bandwidth floor"] = floor_seconds / seconds
    alone = Row(
        case.suite, case.name, device.name, seconds, len(own), compile_seconds, cached, own[-1].peak_bytes, figures
    )
    rows = []
    for name, theirs in measured.items():
        peer_seconds = median(repetition.seconds for repetition in theirs)
        ratios = [peer.seconds / ours.seconds for peer, ours in zip(theirs, own, strict=True)]
        rows.append(
            replace(
                alone,
                peer=name,
                peer_seconds=peer_seconds,
                ratio=peer_seconds / seconds,
                ratio_range=(min(ratios), max(ratios)),
                peer_figures=theirs[-1].figures,
            )
        )
    return rows or [alone]
