"""Line ends of CSV files: those of Unix, with every name whole."""

from __future__ import annotations

from typing import TextIO


class UnixLines:
    """What a `csv.writer` writes to in place of a file, with its line ends replaced.

    It quotes a carriage return within a field only where its own line ends have one.
    """

    def __init__(self, file: TextIO) -> None:
        self._file = file

    def write(self, row: str) -> None:
        self._file.write(row.removesuffix("\r\n") + "\n")
