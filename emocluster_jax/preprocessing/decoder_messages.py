"""What libmpg123 prints of damaged MP3 frames, without the file's name, is dropped; libsndfile cannot turn it off.

It writes to C's variable `stderr`, which Python does not use: its messages go to the file descriptor. During calls into
the decoder that variable leads to a file in memory, whose other lines, of other threads' libraries, go on to the
descriptor. Glibc alone allows this; elsewhere libmpg123's lines are printed.
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
_lock = threading.Lock()
_decoding = 0
_printed = 0
_usual = 0


@contextmanager
def without_mpg123_messages() -> Iterator[None]:
    """For a call into libsndfile that may decode MP3; several threads may be in such calls."""
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
    """Writes to the usual place what others printed meanwhile; all of it once nobody decodes, or else whole lines."""
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
        with suppress(OSError):  # as C would: stderr may be closed
            os.write(2, others)
    if not _decoding:
        os.ftruncate(descriptor, 0)
        _printed = 0


@cache
def _aside() -> tuple[ctypes.c_void_p, int, int] | None:
    """C's `stderr`, a stream to put there, and the descriptor that this writes to; None where that cannot be done."""
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
    libc.setvbuf(stream, None, 2, 0)  # _IONBF: each message is there as soon as it is printed
    return variable, stream, descriptor
