"""`python -m launch.train`, and what the process read and wrote; started by test_several_processes.py.

python watched_training.py SEEN.json [launch.train's options]

SEEN.json gets `read`, the records by name of their file, in the order of reading, and `written`, the paths below
--workdir that Python's own functions opened for writing, made, renamed or removed.
"""

from __future__ import annotations

import json
import os
import runpy
import sys
from pathlib import Path
from typing import Any

from array_record.python import array_record_module

READ: dict[str, list[int]] = {}
WRITTEN: set[str] = set()
WORKDIR = sys.argv[sys.argv.index("--workdir") + 1]
FOR_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT


class WatchedReader(array_record_module.ArrayRecordReader):
    """Both the project's reader and TFDS's data source read records through this class."""

    def __init__(self, path: str, *arguments: Any, **options: Any) -> None:
        super().__init__(path, *arguments, **options)
        self._read = READ.setdefault(Path(path).name, [])

    def read(self, *positions: Any) -> Any:
        self._read.extend(positions[0] if isinstance(positions[0], list) else range(*positions))
        return super().read(*positions)


def watch(event: str, arguments: tuple[Any, ...]) -> None:
    """An audit hook (PEP 578): hears of every file that Python opens or moves."""
    changes = event in ("os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.link", "os.symlink", "os.truncate")
    if changes or (event == "open" and isinstance(arguments[2], int) and arguments[2] & FOR_WRITING):
        for argument in arguments[:2]:
            if isinstance(argument, str | os.PathLike) and os.fspath(argument).startswith(WORKDIR):
                WRITTEN.add(os.fspath(argument))


if __name__ == "__main__":
    array_record_module.ArrayRecordReader = WatchedReader
    sys.addaudithook(watch)
    seen, sys.argv = sys.argv[1], sys.argv[1:]
    runpy.run_module("launch.train", run_name="__main__", alter_sys=True)
    Path(seen).write_text(json.dumps({"read": READ, "written": sorted(WRITTEN)}))
