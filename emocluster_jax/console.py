"""Progress on stderr and results on stdout.

On a terminal a running task is one line with rate, elapsed and remaining time, and a bar where there is room, which its
own thread keeps moving while XLA compiles. Elsewhere (a log file, a CI job) it is a line at its start, one every ten
seconds, and one at its end.
"""

from __future__ import annotations

import logging
import math
import os
import shutil
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from emocluster_jax.errors import one_line

if TYPE_CHECKING:
    from rich.console import Group
    from rich.table import Table

_ENOUGH_S = 2.0
"""Seconds of work after which a rate says something."""
_ROW, _BAR, _LEAST_BAR = 120, 24, 6
"""The widest a running task's line may be, and the widest and narrowest its bar, in letters."""
_LEGIBLE = 10
"""The narrowest a table's column may be folded to, in letters."""
_BETWEEN_COLUMNS = 3


@dataclass(eq=False)
class Task:
    """Handle of a running task. Its methods may be called from any thread of this process."""

    description: str
    total: int | None = None
    """Units of work; None, if unknown, shows only the elapsed time."""
    unit: str = ""
    """What is counted, e.g. "chunks"."""
    note: str = ""
    """Shown while the task runs, e.g. the last score."""
    work: float | None = None
    """What all units cost together; None where each costs 1."""
    done: int = 0
    detail: str = ""
    started: float = field(default_factory=time.monotonic)
    _worked: float = 0.0
    _waited: float = 0.0
    _idle: bool = False
    _first: tuple[float, int, float] | None = None
    _last: tuple[float, int, float] = (0.0, 0, 0.0)

    def advance(self, n: int = 1, cost: float = 1.0) -> None:
        """Counts `n` more units of work as done, of which each takes `cost` times as long as the cheapest ones."""
        self.done += n
        self._worked += n * cost
        if n:  # not while a program is only compiled
            self._last = self.elapsed_s - self._waited, self.done, self._worked
            self._first = self._first or self._last

    def skip(self, n: int, cost: float = 1.0) -> None:
        """Counts units that were done before the task began, which say nothing about its rate."""
        self.done += n
        self._worked += n * cost

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Leaves the block out of rate and estimate, and hides both: nothing is done in it, as in compilation."""
        begun, self._idle = time.monotonic(), True
        yield
        self._waited += time.monotonic() - begun
        self._idle = False

    def describe(self, text: str) -> None:
        """Shows `text` beside the description, replacing the last one; "" shows nothing."""
        self.detail = text

    @property
    def elapsed_s(self) -> float:
        return time.monotonic() - self.started

    @property
    def details(self) -> str:
        return ", ".join(filter(None, (self.detail, self.note)))

    @property
    def title(self) -> str:
        return ": ".join(filter(None, (self.description, self.details)))

    @property
    def progress(self) -> str:
        """E.g. "120/450 chunks (40 s, 3.0 chunks/s, 110 s left)"."""
        count = f"{self.done}/{self.total}" if self.total is not None else f"{self.done}" if self.done else ""
        counted = f"{count} {self.unit}".rstrip() + " " if count else ""
        # The first units may include compilation, so the rate is of those after them.
        first = self._first or self._last
        seconds, units, worked = (last - before for last, before in zip(self._last, first, strict=True))
        pace = ""
        if seconds >= _ENOUGH_S and not self._idle:
            pace = f", {_per_second(units / seconds, self.unit)}"
            if self.total is not None and self.done < self.total:
                pace += f", {duration(((self.work or self.total) - self._worked) * seconds / worked)} left"
        return f"{counted}({duration(self.elapsed_s)}{pace})"

    @property
    def state(self) -> str:
        """E.g. "epoch 3/20 120/450 chunks (40 s, 3.0 chunks/s, 110 s left): stage II: training"."""
        return ": ".join(filter(None, (f"{self.description} {self.progress}", self.details)))


class Console:
    """How commands and long functions talk to the person who started them.

    Args:
      quiet: print only warnings.
      interval_s: seconds between progress lines if stderr is not a terminal.
      wording: rewrites texts for commands, which have other names for settings.
    """

    def __init__(self, quiet: bool = False, interval_s: float = 10.0, wording: Callable[[str], str] = str) -> None:
        self.quiet = quiet
        self._wording = wording
        self._interval_s = interval_s
        self._display: _Bars | _Lines | None = None
        self._tasks: list[Task] = []
        self._lock = threading.Lock()

    def line(self, text: str = "") -> None:
        """Prints a result, on stdout; on a terminal, lines break between words."""
        if not self.quiet:
            self._print(_wrapped(self._wording(text), _stdout_is_terminal()))

    def command(self, text: str) -> None:
        """Prints a command to copy, on stdout, indented and never broken."""
        if not self.quiet:
            self._print(f"  {text}")

    def warn(self, text: str) -> None:
        """Prints `warning: ...` on stderr, in one line (as a terminal wraps it) with names escaped, even if quiet."""
        self._print(_wrapped(f"warning: {one_line(self._wording(text))}", _is_terminal()), to_stderr=True)

    @contextmanager
    def showing_log(self) -> Iterator[None]:
        """Shows what the package logs in the block, such as oddities of a corpus, as warnings."""
        logger, handler = logging.getLogger("emocluster_jax"), logging.Handler(logging.WARNING)
        handler.emit = lambda record: self.warn(record.getMessage())
        propagates, logger.propagate = logger.propagate, False  # some libraries have the root logger print it, too
        logger.addHandler(handler)
        try:
            yield
        finally:
            logger.removeHandler(handler)
            logger.propagate = propagates

    def table(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
        """Prints a table on stdout: three decimals for floats, `-` for None and NaN, numbers to the right."""
        if self.quiet:
            return
        from rich.box import SIMPLE_HEAD
        from rich.console import Console as RichConsole
        from rich.table import Table
        from rich.text import Text

        table = Table(title=Text(title), title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
        for i, column in enumerate(columns):
            numeric = all(row[i] is None or isinstance(row[i], int | float) for row in rows)
            table.add_column(Text(column), justify="right" if numeric else "left", overflow="fold")
        for row in rows:
            table.add_row(*(Text(_cell(value)) for value in row))
        # In a pipe, rich would fold at 80 columns; on a narrow terminal it would leave columns out.
        rich = RichConsole(file=sys.stdout, width=None if _stdout_is_terminal() else 200)
        rich.width = max(rich.width, _least_width(columns, rows))
        with rich.capture() as captured:
            rich.print(table)
        self._print("\n".join(part.rstrip() for part in captured.get().rstrip().splitlines()))

    @contextmanager
    def task(
        self, description: str, total: int | None = None, unit: str = "", *, note: str = "", work: float | None = None
    ) -> Iterator[Task]:
        """Shows a `Task` until the block ends; nested tasks disappear when they end."""
        task = Task(description, total, unit, note, work)
        if self.quiet:
            yield task
            return
        with self._lock:
            outermost = self._display is None
            self._tasks.append(task)
            if self._display is None:
                self._display = _Bars(self._tasks) if _is_terminal() else _Lines(self._tasks, self._interval_s)
            display = self._display
        finished = False
        try:
            yield task
            finished = True
        finally:
            if outermost:
                display.stop(task, finished)
                self._display = None
            self._tasks.remove(task)

    def _print(self, text: str, to_stderr: bool = False) -> None:
        display = self._display
        stream = sys.stderr if to_stderr else sys.stdout
        # File names may have characters that the terminal's encoding lacks.
        encoding = getattr(stream, "encoding", None) or "utf-8"
        text = text.encode(encoding, "backslashreplace").decode(encoding)
        if isinstance(display, _Bars) and (to_stderr or display.stdout_is_terminal):
            display.print_above(text)
        else:
            _write(text, to_stderr)


class _Bars:
    """A line per task on stderr, with rich; the outermost stays on the screen, its bar full, with its time."""

    def __init__(self, tasks: Sequence[Task]) -> None:
        from rich.console import Console as RichConsole
        from rich.live import Live
        from rich.spinner import Spinner

        self._tasks = tasks
        # Before `start`, which replaces sys.stdout by a proxy so that stray prints appear above the bars.
        self.stdout_is_terminal = _stdout_is_terminal()
        self._console = console = RichConsole(file=sys.stderr)
        self._spinner = Spinner("dots" if console.encoding.startswith("utf") else "line")
        self._live = Live(
            console=console, get_renderable=self._rows, refresh_per_second=10, redirect_stdout=self.stdout_is_terminal
        )
        self._live.start()

    def print_above(self, text: str) -> None:
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    def stop(self, task: Task, finished: bool) -> None:
        if finished:
            task.detail = task.note = ""
            task.total = task.total and task.done
        self._live.stop()

    def _rows(self) -> Group:
        from rich.console import Group

        return Group(*map(self._row, list(self._tasks)))

    def _row(self, task: Task) -> Table:
        """Text on the left, where it does not move, and the bar at the right end: it shrinks first, and goes."""
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        text, width = Text(task.state), min(self._console.width, _ROW) - len("* ")
        room = min(_BAR, width - text.cell_len - 1)
        bar = [] if task.total is None or room < _LEAST_BAR else [ProgressBar(task.total, task.done, width=room)]
        text.truncate(width - (room + 1 if bar else 0), overflow="ellipsis", pad=True)
        row = Table.grid(padding=(0, 1))
        row.add_row(self._spinner, text, *bar)
        return row


class _Lines:
    """Plain lines on stderr, from a timer thread, even while nothing advances."""

    def __init__(self, tasks: Sequence[Task], interval_s: float) -> None:
        self._tasks = tasks
        self._interval_s = interval_s
        self._ended = threading.Event()
        self._timer = threading.Thread(target=self._report, name="progress", daemon=True)
        _write(f"{tasks[0].title} ...", to_stderr=True)
        self._timer.start()

    def stop(self, task: Task, finished: bool) -> None:
        self._ended.set()
        self._timer.join()
        if finished:
            count = f"{task.done}, " if task.done else ""
            _write(f"{task.description}: done ({count}{task.elapsed_s:.1f} s)", to_stderr=True)

    def _report(self) -> None:
        while not self._ended.wait(self._interval_s):
            _write(" | ".join(task.state for task in list(self._tasks)), to_stderr=True)


def _write(text: str, to_stderr: bool) -> None:
    """Prints a line; if it cannot be written, or there is no such stream (`pythonw`), the work goes on."""
    stream = sys.stderr if to_stderr else sys.stdout
    if stream is not None:
        with suppress(OSError):
            print(text, file=stream, flush=True)


def _wrapped(text: str, on_terminal: bool) -> str:
    """The text in lines of the terminal's width; a word that is longer, such as a path, stays whole."""
    if not on_terminal:
        return text
    wrapper = textwrap.TextWrapper(
        shutil.get_terminal_size().columns, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False
    )
    return "\n".join(map(wrapper.fill, text.split("\n")))


def counted(count: int, noun: str) -> str:
    """E.g. "1 epoch" or "5 epochs"."""
    return f"{count} {noun}{'s' * (count != 1)}"


def audio_duration(hours: float) -> str:
    """E.g. "2.25 h" or, below 0.1 h, "2.4 min"."""
    return f"{hours:.2f} h" if hours >= 0.1 else f"{60 * hours:.1f} min"


def duration(seconds: float) -> str:
    """E.g. "45 s", "20 min" or "3 h 5 min": as exactly as one wants to know it."""
    minutes = round(seconds / 60)
    if seconds < 300:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"


def _per_second(rate: float, unit: str) -> str:
    of = f" {unit}/s" if unit else "/s"
    if rate >= 1_000:
        return f"{rate / 1_000:.1f}k{of}"
    return f"{rate:.1f}{of}" if rate >= 1 else f"{1 / rate:.1f} s each"


def _stdout_is_terminal() -> bool:
    return sys.stdout is not None and sys.stdout.isatty()


def _is_terminal() -> bool:
    return sys.stderr is not None and sys.stderr.isatty() and os.environ.get("TERM") != "dumb"


def _least_width(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> int:
    """The width of a table with no column folded to less than a few letters, and no folded numbers."""
    widths = [max([len(column), *(len(_cell(row[i])) for row in rows)]) for i, column in enumerate(columns)]
    return sum(min(width, _LEGIBLE) + _BETWEEN_COLUMNS for width in widths)


def _cell(value: object) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "-"
    return f"{value:z.3f}" if isinstance(value, float) else str(value)
