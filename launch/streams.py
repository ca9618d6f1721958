"""stdin, stdout and stderr, on which no command's work depends.

A terminal can go away, a log's disk can be full, the reader of a pipe can leave. What cannot be printed is then lost,
the work goes on, and the command's exit status says so. A stream that is closed from the start (`>&-`) is meant to be:
it is replaced by /dev/null, and nothing counts as lost.
"""

from __future__ import annotations

import io
import os
import select
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

_DESCRIPTORS = {0: "stdin", 1: "stdout", 2: "stderr"}


class _Output(io.FileIO):
    """Drops what the descriptor does not take, and keeps the first reason."""

    error: OSError | None = None

    def write(self, data: bytes | bytearray | memoryview, /) -> int:  # type: ignore[override]
        rest = memoryview(data).cast("B")
        size = len(rest)
        try:
            while rest:
                written = super().write(rest)
                if written is None:  # another program has made the same terminal or pipe non-blocking
                    select.select([], [self], [])
                else:
                    rest = rest[written:]
        except OSError as error:
            self.error = self.error or error
        return size


@contextmanager
def independent() -> Iterator[Callable[[], dict[str, OSError]]]:
    """In the block printing raises no error; characters that the encoding of stdout lacks are escaped.

    It is given a function that writes everything out and returns, by stream, why something printed is lost. Streams
    that have been replaced (`sys.stdout = ...`) are left alone.
    """
    _open_missing()
    own = {name: stream for name in ("stdout", "stderr") if (stream := _own(name)) is not None}
    outputs = {name: _Output(stream.fileno(), "w", closefd=False) for name, stream in own.items()}
    streams = {name: _text(output, own[name]) for name, output in outputs.items()}

    def lost() -> dict[str, OSError]:
        for stream in streams.values():
            stream.flush()
        return {name: output.error for name, output in outputs.items() if output.error is not None}

    for name, stream in streams.items():
        own[name].flush()
        setattr(sys, name, stream)
    try:
        yield lost
    finally:
        for name, stream in streams.items():
            stream.flush()
            setattr(sys, name, own[name])


def _own(name: str) -> io.TextIOWrapper | None:
    stream = getattr(sys, name)
    return stream if stream is getattr(sys, f"__{name}__") and isinstance(stream, io.TextIOWrapper) else None


def _text(output: _Output, like: io.TextIOWrapper) -> TextIO:
    return io.TextIOWrapper(
        output if like.write_through else io.BufferedWriter(output),  # type: ignore[arg-type]
        encoding=like.encoding,
        errors="backslashreplace" if like.errors == "strict" else like.errors,
        line_buffering=like.line_buffering,
        write_through=like.write_through,
    )


def _open_missing() -> None:
    """Opens /dev/null for closed descriptors: otherwise files would get their numbers, and what C++ libraries print."""
    for descriptor, name in _DESCRIPTORS.items():
        try:
            os.fstat(descriptor)
        except OSError:
            opened = os.open(os.devnull, os.O_RDWR)  # the lowest number that is free
            assert opened == descriptor
            os.set_inheritable(descriptor, True)
        if getattr(sys, name) is None:
            stream = os.fdopen(descriptor, "r" if descriptor == 0 else "w", encoding="utf-8", closefd=False)
            setattr(sys, name, stream)
            setattr(sys, f"__{name}__", stream)
