"""Progress on stderr and results on stdout.

On a terminal a running task is a bar with rate, elapsed and remaining time, which its own thread keeps moving while XLA
compiles. Elsewhere (a log file, a CI job) it is a line at its start, one every ten seconds, and one at its end.
"""

from __future__ import annotations

import logging
import math
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from emocluster_jax.errors import one_line

if TYPE_CHECKING:
    from rich.console import Console as RichConsole
    from rich.progress import Progress, TaskID


_LEGIBLE = 10
"""The narrowest a table's column may be folded to, in letters."""
_BETWEEN_COLUMNS = 3


@dataclass(eq=False)
class Task:
    """Handle of a running task. Its methods may be called from any thread of this process."""

    description: str
    total: int | None = None
    """Units of work; None if unknown."""
    note: str = ""
    """Shown while the task runs."""
    done: int = 0
    detail: str = ""
    started: float = field(default_factory=time.monotonic)
    _display: _Display | None = None

    def advance(self, n: int = 1) -> None:
        """Counts `n` more units of work as done."""
        self.done += n
        self._show()

    def describe(self, text: str) -> None:
        """Shows `text` beside the description, replacing the last one; "" shows nothing."""
        self.detail = text
        self._show()

    @property
    def elapsed_s(self) -> float:
        return time.monotonic() - self.started

    @property
    def title(self) -> str:
        return ", ".join(filter(None, (": ".join(filter(None, (self.description, self.detail))), self.note)))

    def _show(self) -> None:
        if self._display is not None:
            self._display.update(self)


class _WarningHandler(logging.Handler):
    def __init__(self, console: Console) -> None:
        super().__init__(logging.WARNING)
        self._console = console

    def emit(self, record: logging.LogRecord) -> None:
        self._console.warn(record.getMessage())


class Console:
    """How commands and long functions talk to the person who started them.

    Args:
      quiet: print only warnings.
      interval_s: seconds between progress lines if stderr is not a terminal.
      wording: rewrites texts for commands, which have other names for settings.
    """

    def __init__(
        self, quiet: bool = False, interval_s: float = 10.0, wording: Callable[[str], str] | None = None
    ) -> None:
        self.quiet = quiet
        self._wording = wording or (lambda text: text)
        self._interval_s = interval_s
        self._display: _Display | None = None
        self._lock = threading.Lock()

    def line(self, text: str = "") -> None:
        """Prints a result, on stdout."""
        if not self.quiet:
            self._print(self._wording(text))

    def warn(self, text: str) -> None:
        """Prints `warning: ...` on stderr, in one line with names escaped, even if quiet."""
        self._print(f"warning: {one_line(self._wording(text))}", to_stderr=True)

    @contextmanager
    def showing_log(self) -> Iterator[None]:
        """Shows what the package logs in the block, such as oddities of a corpus, as warnings."""
        logger, handler = logging.getLogger("emocluster_jax"), _WarningHandler(self)
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
    def task(self, description: str, total: int | None = None, note: str = "") -> Iterator[Task]:
        """Shows a task until the block ends; nested tasks disappear when they end.

        Args:
          description: e.g. "preparing recordings".
          total: units of work, which `Task.advance` counts; None shows only the elapsed time.
          note: shown beside it, e.g. the last score.
        """
        if self.quiet:
            yield Task(description, total, note)
            return
        with self._lock:
            outermost = self._display is None
            if self._display is None:
                self._display = _Bars() if _is_terminal() else _Lines(self._interval_s)
            display = self._display
        task = Task(description, total, note, _display=display)
        finished = False
        try:
            display.add(task)
            yield task
            finished = True
        finally:
            display.remove(task, finished)
            if outermost:
                display.stop()
                self._display = None

    def _print(self, text: str, to_stderr: bool = False) -> None:
        display = self._display
        stream = sys.stderr if to_stderr else sys.stdout
        # File names may have characters that the terminal's encoding lacks.
        encoding = getattr(stream, "encoding", None) or "utf-8"
        text = text.encode(encoding, "backslashreplace").decode(encoding)
        if display is None or not display.print_above(text, to_stderr):
            _write(text, to_stderr)


class _Display(Protocol):
    def add(self, task: Task) -> None: ...

    def update(self, task: Task) -> None: ...

    def remove(self, task: Task, finished: bool) -> None: ...

    def print_above(self, text: str, to_stderr: bool) -> bool: ...

    def stop(self) -> None: ...


class _Bars:
    """rich's bars on stderr."""

    def __init__(self) -> None:
        from rich.console import Console as RichConsole

        # Before `start`, which replaces sys.stdout by a proxy so that stray prints appear above the bars.
        self._stdout_is_terminal = _stdout_is_terminal()
        self._progress = _progress(RichConsole(file=sys.stderr), redirect_stdout=self._stdout_is_terminal)
        self._ids: dict[Task, TaskID] = {}
        self._progress.start()

    def add(self, task: Task) -> None:
        self._ids[task] = self._progress.add_task(task.title, total=task.total, counted=task.total is not None)

    def update(self, task: Task) -> None:
        if task in self._ids:
            self._progress.update(self._ids[task], description=task.title, completed=task.done)

    def remove(self, task: Task, finished: bool) -> None:
        task_id = self._ids.pop(task)
        if self._ids:
            self._progress.remove_task(task_id)
        elif finished:
            # The outermost bar stays on the screen, full, with its time.
            done = max(task.done, 1)
            self._progress.update(task_id, description=task.description, total=done, completed=done)

    def print_above(self, text: str, to_stderr: bool) -> bool:
        if not to_stderr and not self._stdout_is_terminal:
            return False
        self._progress.console.print(text, markup=False, highlight=False, soft_wrap=True)
        return True

    def stop(self) -> None:
        self._progress.stop()


class _Lines:
    """Plain lines on stderr, from a timer thread, even while nothing advances."""

    def __init__(self, interval_s: float) -> None:
        self._interval_s = interval_s
        self._tasks: list[Task] = []
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._timer = threading.Thread(target=self._report, name="progress", daemon=True)
        self._timer.start()

    def add(self, task: Task) -> None:
        with self._lock:
            self._tasks.append(task)
            if len(self._tasks) == 1:
                _write(f"{task.title} ...", to_stderr=True)

    def update(self, task: Task) -> None:
        pass

    def remove(self, task: Task, finished: bool) -> None:
        with self._lock:
            self._tasks.remove(task)
            if not self._tasks and finished:
                count = f"{task.done}, " if task.done else ""
                _write(f"{task.description}: done ({count}{task.elapsed_s:.1f} s)", to_stderr=True)

    def print_above(self, text: str, to_stderr: bool) -> bool:
        return False

    def stop(self) -> None:
        self._ended.set()
        self._timer.join()

    def _report(self) -> None:
        while not self._ended.wait(self._interval_s):
            with self._lock:
                if self._tasks:
                    _write(" | ".join(_status(task) for task in self._tasks), to_stderr=True)


def _write(text: str, to_stderr: bool) -> None:
    """Prints a line; if it cannot be written, or there is no such stream (`pythonw`), the work goes on."""
    stream = sys.stderr if to_stderr else sys.stdout
    if stream is not None:
        with suppress(OSError):
            print(text, file=stream, flush=True)


def _status(task: Task) -> str:
    """E.g. "preparing recordings 120/450 (40 s, 3.0/s, 110 s left)"."""
    count = f" {task.done}/{task.total}" if task.total is not None else (f" {task.done}" if task.done else "")
    elapsed_s, pace = max(task.elapsed_s, 1e-9), ""
    if task.done:
        pace = f", {_rate(task.done / elapsed_s)}"
        if task.total is not None and task.done < task.total:
            pace += f", {elapsed_s * (task.total - task.done) / task.done:.0f} s left"
    details = ", ".join(filter(None, (task.detail, task.note)))
    return f"{task.description}{count} ({elapsed_s:.0f} s{pace})" + (f": {details}" if details else "")


def _rate(per_second: float) -> str:
    if per_second >= 1_000:
        return f"{per_second / 1_000:.1f}k/s"
    return f"{per_second:.1f}/s" if per_second >= 1 else f"{1 / per_second:.1f} s each"


def _short(count: float) -> str:
    return f"{count:.0f}" if count < 10_000 else f"{count / 1_000:.0f}k"


def _progress(console: RichConsole, redirect_stdout: bool) -> Progress:
    from rich.progress import (
        BarColumn,
        Progress,
        ProgressColumn,
        SpinnerColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )
    from rich.table import Column
    from rich.text import Text

    class Counted(ProgressColumn):
        """A column for tasks with a known total; if space is short, the bar shrinks."""

        def __init__(self, column: ProgressColumn) -> None:
            super().__init__(Column(no_wrap=not isinstance(column, BarColumn)))
            self.column = column

        def render(self, task: Any) -> Any:
            return self.column(task) if task.fields["counted"] else Text()

    class Count(ProgressColumn):
        """Short, so that the description and the remaining time fit 80 columns."""

        def render(self, task: Any) -> Text:
            return Text(f"{_short(task.completed)}/{_short(task.total)}", style="progress.download")

    class Rate(ProgressColumn):
        def render(self, task: Any) -> Text:
            speed = task.finished_speed or task.speed
            return Text(_rate(speed), style="progress.data.speed") if speed else Text()

    return Progress(
        SpinnerColumn("dots" if console.encoding.startswith("utf") else "line"),
        TextColumn("{task.description}", markup=False),
        Counted(BarColumn(bar_width=24)),
        Counted(Count()),
        Counted(Rate()),
        TimeElapsedColumn(Column(no_wrap=True)),
        Counted(TimeRemainingColumn(compact=True)),
        console=console,
        redirect_stdout=redirect_stdout,
        redirect_stderr=True,
    )


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
