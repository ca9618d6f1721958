"""How commands heed Ctrl-C and SIGTERM, which a cluster sends before it takes a machine away: the first ends the work
in good order, the second at once.

Python runs signal handlers in the main thread between two of its instructions, which compiling or waiting for a device
may put off by minutes. What is to happen at once is therefore done by a thread that the system wakes.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Thread
from typing import Any, NoReturn


class Terminated(KeyboardInterrupt):
    """SIGTERM came; whatever answers Ctrl-C answers it likewise."""


_RAISED = {signal.SIGINT: KeyboardInterrupt, signal.SIGTERM: Terminated}
# `timeout` and some launchers send a signal to the process and to its group: it comes twice, and is meant once.
_ECHO_S = 0.5


@dataclass
class _State:
    notice: str = ""  # what the first signal prints


_state = _State()


@contextmanager
def heeded() -> Iterator[None]:
    """In the block SIGTERM raises `Terminated`, like Ctrl-C KeyboardInterrupt, and a second signal ends the process.

    What the person who started the process chose to ignore stays ignored.
    """
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    wakeup = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    Thread(target=_watch, args=(reader,), name="signals", daemon=True).start()
    replaced = signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    if replaced:
        signal.signal(signal.SIGTERM, _raise_terminated)
    try:
        yield
    finally:
        if replaced:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.set_wakeup_fd(wakeup)
        os.close(writer)


class Deferred:
    """Whether a signal came while none was to interrupt anything."""

    def __init__(self) -> None:
        self._came: int | None = None

    def __call__(self) -> bool:
        return self._came is not None

    def note(self, number: int, _frame: Any) -> None:
        """The signals' handler."""
        self._came = self._came or number

    def exception(self) -> KeyboardInterrupt:
        """What the signal that came raises elsewhere; KeyboardInterrupt if none came."""
        return _RAISED[signal.Signals(self._came or signal.SIGINT)]()


@contextmanager
def deferred(notice: str) -> Iterator[Deferred]:
    """In the block signals interrupt nothing; at its end, unless it fails, the one that came is raised.

    Args:
      notice: what the first signal prints, on stderr.
    """
    found = Deferred()
    default = (signal.default_int_handler, _raise_terminated, signal.SIG_DFL)
    before = {number: signal.getsignal(number) for number in _RAISED if signal.getsignal(number) in default}
    _state.notice = notice
    try:
        for number in before:
            signal.signal(number, found.note)
        yield found
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        _state.notice = ""
    if found():
        raise found.exception()


def _raise_terminated(_number: int, _frame: Any) -> NoReturn:
    raise Terminated


def _watch(reader: int) -> None:
    """Reads the signals' numbers as they come; ends when the other end is closed."""
    first: float | None = None
    with os.fdopen(reader, "rb", buffering=0) as numbers:
        while number := numbers.read(1):
            if number[0] not in _RAISED:
                continue
            if first is None:
                first = time.monotonic()
                if _state.notice:
                    print(_state.notice, file=sys.stderr, flush=True)
            elif time.monotonic() - first > _ECHO_S:
                if sys.stderr.isatty():
                    os.write(sys.stderr.fileno(), b"\x1b[?25h\n")  # the cursor, which progress bars hide
                os._exit(128 + number[0])
