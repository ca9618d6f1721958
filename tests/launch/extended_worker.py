"""What the examples of docs/extending.md do where they are registered; see tests/test_documentation.py.

python extended_worker.py FOLDER

Each runs in a child of its own, in FOLDER. Prints their exit statuses as JSON, by name; what they print is in FOLDER,
in `NAME.out` and `NAME.out.err`.
"""

from __future__ import annotations

import json
import os
import sys
from functools import partial
from pathlib import Path

import late_fusion_worker
import temporal_worker
from forked import fork, statuses

from launch import prepare, train
from running import call


def prepare_and_train() -> None:
    given = ["--corpus", "my_corpus", "--source", "corpus", "--ratings", "experts", "--data-dir", "data"]
    call(prepare, *given, "--workers", "1")
    small = ["--width-multiplier", "0.125", "--batch-size", "3", "--epochs", "1", "--quiet"]
    call(train, "--data-dir", "data", "--workdir", "run", "--model", "pi_model", *small)


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    os.chdir(folder)
    examples = {
        "commands": prepare_and_train,
        "temporal": partial(temporal_worker.main, folder / "temporal"),
        "late_fusion": partial(late_fusion_worker.main, folder / "late_fusion"),
    }
    pids = [fork(run, folder / f"{name}.out") for name, run in examples.items()]
    print(json.dumps(dict(zip(examples, statuses(pids), strict=True))))
