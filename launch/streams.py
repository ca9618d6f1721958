"""stdin, stdout and stderr, on which no command's work depends.

A terminal can go away, a log's disk can be full, the reader of a pipe can leave. What cannot be printed then is lost,
the work goes on, and the command's exit status says so in the end. What is closed from the start (`>&-`) is what the
person wants: it is taken for /dev/null, and nothing is lost.
"""

from __future__ import annotations

import io
import os
import select
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TextIO

_DESCRIPTORS = {0: "stdin", 1: "stdout", 2: "stderr"}


class _Output(io.FileIO):
    """A descriptor to which all can be written: what it does not take is dropped, and the first reason kept."""

    error: OSError | None = None

    def write(self, data: bytes | bytearray | memoryview, /) -> int:  # type: ignore[override]
        rest = memoryview(data).cast("B")
        size = len(rest)
        try:
            while rest:
                written = super().write(rest)
                if written is None:  # another program on the same terminal or pipe has made it one that does not wait
                    select.select([], [self], [])
                else:
                    rest = rest[written:]
        except OSError as error:
            self.error = self.error or error
        return size


@dataclass(frozen=True)
class Outputs:
    """What has been written to stdout and stderr."""

    _streams: dict[str, TextIO]
    _outputs: dict[str, _Output]

    def lost(self) -> dict[str, OSError]:
        """Why something that was printed is lost, by the name of the stream; the rest is written out before."""
        for stream in self._streams.values():
            stream.flush()
        return {name: output.error for name, output in self._outputs.items() if output.error is not None}


@contextmanager
def independent() -> Iterator[Outputs]:
    """In the block printing raises no error; characters that the encoding of stdout lacks are escaped.

    Streams that somebody else has put in place of the process's own are left alone.
    """
    _open_missing()
    own = {name: stream for name in ("stdout", "stderr") if (stream := _own(name)) is not None}
    outputs = {name: _Output(stream.fileno(), "w", closefd=False) for name, stream in own.items()}
    streams = {name: _text(output, own[name]) for name, output in outputs.items()}
    for name, stream in streams.items():
        own[name].flush()
        setattr(sys, name, stream)
    try:
        yield Outputs(streams, outputs)
    finally:
        for name, stream in streams.items():
            stream.flush()
            setattr(sys, name, own[name])


def _own(name: str) -> io.TextIOWrapper | None:
    """The process's own stream, unless another one is in its place."""
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
    """Leads descriptors that are closed to /dev/null: the next files that are opened would get their numbers.

    Whatever is printed, be it by libraries in C++, would otherwise end up in those files.
    """
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
