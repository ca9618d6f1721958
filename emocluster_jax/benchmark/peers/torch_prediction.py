"""Recordings through three networks: librosa and PyTorch, one file after another.

As a command: `python -m emocluster_jax.benchmark.peers.torch_prediction FOLDER TABLE.csv DEVICE`
"""

from __future__ import annotations

import csv
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from emocluster_jax.benchmark.cases import Prepared
from emocluster_jax.benchmark.peers.librosa_features import BANDS, chunks_of
from emocluster_jax.benchmark.peers.torch_network import Network, make_network
from emocluster_jax.benchmark.recordings import write_recordings
from emocluster_jax.runtime.child_processes import end_with_parent, run_child


def predictions(recordings: int, seconds: float, device: str) -> Prepared:
    """A running process; seconds are those of one recording."""
    folder = tempfile.TemporaryDirectory()
    paths = write_recordings(Path(folder.name), recordings, seconds)
    networks = make_networks(device)

    def repeat() -> dict[str, float]:
        started = time.perf_counter()
        for path in paths:
            predict(path, networks, device)
        return {"times real time": recordings * seconds / (time.perf_counter() - started)}

    predict(paths[0], networks, device)
    return Prepared(repeat, recordings, close=folder.cleanup)


def command(recordings: int, seconds: float, device: str) -> Prepared:
    """The whole command, from its start to its table."""
    folder = tempfile.TemporaryDirectory()
    root = Path(folder.name)
    source = root / "recordings"
    source.mkdir()
    write_recordings(source, recordings, seconds)

    def repeat() -> dict[str, float]:
        arguments = [source, root / "table.csv", device]
        line = [sys.executable, "-m", __spec__.name, *map(str, arguments)]
        if status := run_child(line):
            raise subprocess.CalledProcessError(status, line)
        return {}

    return Prepared(repeat, close=folder.cleanup)


def make_networks(device: str) -> list[Network]:
    """Three networks in evaluation mode."""
    return [make_network(1.0, device).eval() for _ in range(3)]


def predict(path: Path, networks: list[Network], device: str) -> list[float]:
    """The three attributes of a recording."""
    chunks = chunks_of(path, np.ones(BANDS, np.float32), np.full(BANDS, 3, np.float32))
    with torch.inference_mode():
        data = torch.from_numpy(chunks).to(device)
        return [float(network(data)[2].mean()) for network in networks]


if __name__ == "__main__":
    end_with_parent()
    source, table, device = sys.argv[1:]
    networks = make_networks(device)
    with Path(table).open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        for path in sorted(Path(source).iterdir()):
            rows.writerow([path.name, *predict(path, networks, device)])
