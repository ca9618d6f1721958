"""How commands heed Ctrl-C and SIGTERM, which a cluster sends before it takes a machine away: the first ends the work
in good order, the second at once.

Python runs signal handlers in the main thread between two of its instructions, which compiling or waiting for a device
may put off by minutes. What is to happen at once is therefore done by a thread that the system wakes.

What a handler raises may also come between two instructions of a lock of Python's own, which then stays taken, and the
threads that the main thread waits for in the end wait for it in turn. The same thread therefore ends a process that
does not end by itself; as files are written, that loses no more than a power cut does.

Or it may come in a finalizer or a callback, such as JAX's after each garbage collection, out of which Python lets no
exception. The signal is then sent again until it has interrupted the work.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from threading import Thread, main_thread
from typing import Any, NoReturn


class Terminated(KeyboardInterrupt):
    """SIGTERM came; whatever answers Ctrl-C answers it likewise."""


_RAISED = {signal.SIGINT: KeyboardInterrupt, signal.SIGTERM: Terminated}
_DEFAULT = (signal.default_int_handler, signal.SIG_DFL)
# `timeout` and some launchers send a signal to the process and to its group: it comes twice, and is meant once.
_ECHO_S = 0.5
_SEND_AGAIN = bytes([0])  # no signal has this number
_SEND_AGAIN_AFTER_S = 0.01
PATIENCE_S = 25.0
"""For shards and batches in work, which are waited for; clusters kill after some 30 s."""


@dataclass
class _State:
    notice: str = ""  # what the first signal prints
    interrupted_by: int | None = None  # the signal that ended the work, from when it did
    since: float = 0.0  # time.monotonic() then

    def interrupt(self, number: int) -> None:
        if self.interrupted_by is None:
            self.interrupted_by, self.since = number, time.monotonic()


_state = _State()


@contextmanager
def heeded(patience_s: float) -> Iterator[None]:
    """In the block SIGTERM raises `Terminated`, like Ctrl-C KeyboardInterrupt, and a second signal ends the process.

    What the person who started the process chose to ignore stays ignored.

    Args:
      patience_s: seconds that the process has to end by itself, counted from when the signal interrupts the work.
    """
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    wakeup = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    Thread(target=_watch, args=(reader, patience_s), name="signals", daemon=True).start()
    report = sys.unraisablehook

    def send_again(unraisable: sys.UnraisableHookArgs) -> None:
        if _state.interrupted_by is None or not isinstance(unraisable.exc_value, KeyboardInterrupt):
            report(unraisable)
        else:
            os.write(writer, _SEND_AGAIN)

    sys.unraisablehook = send_again
    before = {number: signal.getsignal(number) for number in _RAISED if signal.getsignal(number) in _DEFAULT}
    try:
        for number in before:
            signal.signal(number, _interrupt)
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(wakeup)
        sys.unraisablehook = report
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

    @property
    def number(self) -> int:
        """The signal that came; SIGINT if none came."""
        return self._came or signal.SIGINT

    def exception(self) -> KeyboardInterrupt:
        """What the signal that came raises elsewhere."""
        return _RAISED[signal.Signals(self.number)]()


@contextmanager
def deferred(notice: str) -> Iterator[Deferred]:
    """In the block signals interrupt nothing; at its end, unless it fails, the one that came is raised.

    Args:
      notice: what the first signal prints, on stderr.
    """
    found = Deferred()
    before = {n: signal.getsignal(n) for n in _RAISED if signal.getsignal(n) in (*_DEFAULT, _interrupt)}
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
        _state.interrupt(found.number)
        raise found.exception()


def interruption() -> KeyboardInterrupt | None:
    """What the signal that interrupted the work raised, if one did."""
    return None if _state.interrupted_by is None else _RAISED[signal.Signals(_state.interrupted_by)]()


def _interrupt(number: int, _frame: Any) -> NoReturn:
    """The signals' handler while none is deferred."""
    _state.interrupt(number)
    raise _RAISED[signal.Signals(number)]


def _watch(reader: int, patience_s: float) -> None:
    """Reads the signals' numbers as they come; ends when the other end is closed."""
    first: float | None = None
    sent_again = 0
    main = main_thread().ident
    assert main is not None
    with os.fdopen(reader, "rb", buffering=0) as numbers:
        while True:
            if not select.select([numbers], [], [], None if first is None else patience_s / 10)[0]:
                if _state.interrupted_by is not None and time.monotonic() - _state.since > patience_s:
                    _end(_state.interrupted_by, f"the work has not ended within {patience_s:g} s and is broken off\n")
                continue
            if not (number := numbers.read(1)):
                return
            if number == _SEND_AGAIN and _state.interrupted_by is not None:
                time.sleep(_SEND_AGAIN_AFTER_S)
                sent_again += 1
                signal.pthread_kill(main, _state.interrupted_by)
            if number[0] not in _RAISED:
                continue
            if sent_again:
                sent_again -= 1
            elif first is None:
                first = time.monotonic()
                if _state.notice:
                    print(_state.notice, file=sys.stderr, flush=True)
            elif time.monotonic() - first > _ECHO_S:
                _end(number[0])


def _end(number: int, text: str = "") -> NoReturn:
    """Ends the process whatever its threads are at: even printing may wait for one of them."""
    cursor = "\x1b[?25h\n" if sys.stderr.isatty() else ""  # progress bars hide it
    with suppress(OSError):  # stderr may be full, or its reader gone
        os.write(2, (cursor + text).encode())
    os._exit(128 + number)
