"""How commands react to Ctrl-C and SIGTERM, which a cluster sends before it takes a machine away: the first signal ends
the work in good order, a second one ends it at once.

Python runs signal handlers in the main thread, between two of its instructions, which compiling or waiting for a device
can delay by minutes. So a thread that the system wakes does what has to happen at once.

The handler may also raise in the middle of one of Python's own locks. The lock then stays taken, and the threads that
the main thread joins at the end wait for it. So the same thread ends a process that does not end by itself; files are
written such that this loses no more than a power cut.

Or it may raise in a finalizer or a callback, such as JAX's after each garbage collection, where Python drops
exceptions. The signal is then sent again until it has interrupted the work.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from threading import Thread, main_thread
from typing import Any, NoReturn


class Terminated(KeyboardInterrupt):
    """SIGTERM came; whatever handles Ctrl-C handles it too."""


PATIENCE_S = 25.0
"""For shards and batches in work, which are waited for; clusters kill after some 30 s."""
_RAISED: dict[int, type[KeyboardInterrupt]] = {signal.SIGINT: KeyboardInterrupt, signal.SIGTERM: Terminated}
_DEFAULT = (signal.default_int_handler, signal.SIG_DFL)
_ECHO_S = 0.5  # `timeout` and some launchers signal the process and its group: two signals that are meant as one
_SEND_AGAIN = bytes([0])  # no signal has this number
_SEND_AGAIN_AFTER_S = 0.01


@dataclass
class _State:
    notice: str = ""  # what the first signal prints
    interrupted_by: int | None = None  # the signal that ended the work, once one did
    since: float = 0.0  # time.monotonic() then

    def interrupt(self, number: int) -> None:
        if self.interrupted_by is None:
            self.interrupted_by, self.since = number, time.monotonic()


_state = _State()


@contextmanager
def heeded(patience_s: float) -> Iterator[None]:
    """In the block Ctrl-C raises KeyboardInterrupt, SIGTERM `Terminated`, and a second signal ends the process.

    Signals that were ignored when the process started stay ignored. After a signal interrupted the work, the process
    has `patience_s` seconds to end by itself.
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


@contextmanager
def deferred(notice: str, stopped: type[Exception]) -> Iterator[Callable[[], bool]]:
    """In the block signals interrupt nothing; it is given a function that tells whether one came.

    The first signal prints `notice` on stderr. The block's end raises the signal that came, unless the block fails.
    The block may raise `stopped` to end because of a signal: if this process has had none, another one of the run has,
    and this one ends as by Ctrl-C.
    """
    came: list[int] = []
    before = {n: signal.getsignal(n) for n in _RAISED if signal.getsignal(n) in (*_DEFAULT, _interrupt)}
    _state.notice = notice
    try:
        for number in before:
            signal.signal(number, lambda number, _frame: came.append(number))
        yield lambda: bool(came)
    except stopped:
        came.append(signal.SIGINT)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        _state.notice = ""
    if came:
        _state.interrupt(came[0])
        raise _RAISED[came[0]]


def interruption() -> KeyboardInterrupt | None:
    """What the signal that interrupted the work raised, if one did."""
    return None if _state.interrupted_by is None else _RAISED[_state.interrupted_by]()


def _interrupt(number: int, _frame: Any) -> NoReturn:
    _state.interrupt(number)
    raise _RAISED[number]


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
    """Ends the process whatever its threads are doing: even printing may wait for one of them."""
    cursor = "\x1b[?25h\n" if sys.stderr.isatty() else ""  # progress bars hide it
    with suppress(OSError):  # stderr may be full, or its reader gone
        os.write(2, (cursor + text).encode())
    os._exit(128 + number)
