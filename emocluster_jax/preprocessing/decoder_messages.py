"""Drops the messages that libmpg123 prints about damaged MP3 frames; libsndfile cannot turn them off.

They do not name the file. libmpg123 writes to C's variable `stderr`, not to Python's `sys.stderr`. During calls into
the decoder that variable points to a file in memory; what other threads' libraries print there meanwhile is passed on
to the real stderr. Only glibc allows this; elsewhere the messages are printed.
"""

from __future__ import annotations

import ctypes
import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache

_FROM_LIBMPG123 = re.compile(rb"\[[\w./]*\.[ch]:[^\n]*\] (error|warning): ")
_PUNCH_HOLE = 1 | 2
"""Linux's flags FALLOC_FL_KEEP_SIZE and FALLOC_FL_PUNCH_HOLE."""
_lock = threading.Lock()
_decoding = 0
_printed = 0
_usual = 0


@contextmanager
def without_mpg123_messages() -> Iterator[None]:
    """For calls into libsndfile that may decode MP3; several threads may be in such calls at once."""
    global _decoding, _usual
    aside = _aside()
    if aside is None:
        yield
        return
    variable, stream, descriptor = aside
    with _lock:
        if not _decoding:
            _usual = variable.value or 0
            variable.value = stream
        _decoding += 1
    try:
        yield
    finally:
        with _lock:
            _decoding -= 1
            if not _decoding:
                variable.value = _usual
            _pass_on(descriptor)


def _pass_on(descriptor: int) -> None:
    """Writes to stderr what others printed meanwhile: whole lines, or everything once nobody is decoding."""
    global _printed
    size = os.fstat(descriptor).st_size
    if size == _printed:
        return
    text = os.pread(descriptor, size - _printed, _printed)
    if _decoding:
        text = text[: text.rfind(b"\n") + 1]
    _printed += len(text)
    others = b"".join(line for line in text.splitlines(keepends=True) if not _FROM_LIBMPG123.match(line))
    if others:
        with suppress(OSError):  # stderr may be closed; C would go on, too
            os.write(2, others)
    # Frees the memory. To cut the file would lose what another thread prints at this moment.
    ctypes.CDLL(None).fallocate(descriptor, _PUNCH_HOLE, ctypes.c_long(0), ctypes.c_long(_printed))


@cache
def _aside() -> tuple[ctypes.c_void_p, int, int] | None:
    """C's `stderr`, a stream to put there, and the descriptor behind it; None where that is impossible."""
    try:
        if not (os.confstr("CS_GNU_LIBC_VERSION") or "").startswith("glibc"):
            return None  # elsewhere the variable may be a constant
        libc = ctypes.CDLL(None)
        variable = ctypes.c_void_p.in_dll(libc, "stderr")
        descriptor = os.memfd_create("libmpg123")
    except (ValueError, OSError, AttributeError):
        return None
    libc.fdopen.restype = ctypes.c_void_p
    libc.setvbuf.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t)
    stream = libc.fdopen(descriptor, b"a")
    if not stream:
        return None
    libc.setvbuf(stream, None, 2, 0)  # _IONBF: every message can be read as soon as it is printed
    return variable, stream, descriptor
