"""`launch.train` in processes that start together, and what each read and wrote; see test_several_processes.py.

python watched_training.py RUNS.json

RUNS.json lists runs, each a list of processes: `arguments` of launch.train, further `environment` variables, and the
path of its `output`. Runs follow one another. Beside a process's output, PATH.json gets `read`, the records by name of
their file, in the order of reading, and `written`, the paths below --workdir that Python's own functions opened for
writing, made, renamed or removed. Prints the exit statuses of all processes as JSON, in their order.
"""

from __future__ import annotations

import json
import os
import sys
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib.figure  # noqa: F401
import sklearn.metrics  # noqa: F401
import tensorboardX  # noqa: F401
from array_record.python import array_record_module
from forked import fork, statuses

READ: dict[str, list[int]] = {}
WRITTEN: set[str] = set()
FOR_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT


class WatchedReader(array_record_module.ArrayRecordReader):
    """Both the project's reader and TFDS's data source read records through this class."""

    def __init__(self, path: str, *arguments: Any, **options: Any) -> None:
        super().__init__(path, *arguments, **options)
        self._read = READ.setdefault(Path(path).name, [])

    def read(self, *positions: Any) -> Any:
        self._read.extend(positions[0] if isinstance(positions[0], list) else range(*positions))
        return super().read(*positions)


# Before the project's modules take it.
array_record_module.ArrayRecordReader = WatchedReader

from emocluster_jax.api import training  # noqa: E402, F401
from launch import command, train  # noqa: E402


def watched(arguments: list[str], environment: dict[str, str], output: str) -> None:
    workdir = arguments[arguments.index("--workdir") + 1]

    def watch(event: str, about: tuple[Any, ...]) -> None:
        """An audit hook (PEP 578): hears of every file that Python opens or moves."""
        changes = event in ("os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.link", "os.symlink", "os.truncate")
        if changes or (event == "open" and isinstance(about[2], int) and about[2] & FOR_WRITING):
            for path in about[:2]:
                if isinstance(path, str | os.PathLike) and os.fspath(path).startswith(workdir):
                    WRITTEN.add(os.fspath(path))

    sys.addaudithook(watch)
    os.environ |= environment
    sys.argv = ["train", *arguments]
    try:
        command.run(train.main)
    finally:
        Path(f"{output}.json").write_text(json.dumps({"read": READ, "written": sorted(WRITTEN)}))


if __name__ == "__main__":
    ended = []
    for processes in json.loads(Path(sys.argv[1]).read_text()):
        ended += statuses([fork(partial(watched, **process), Path(process["output"])) for process in processes])
    print(json.dumps(ended))
