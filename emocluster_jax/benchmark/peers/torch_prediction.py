"""Recordings through three networks: librosa and PyTorch, one file after another.

As a command: `python -m emocluster_jax.benchmark.peers.torch_prediction FOLDER TABLE.csv DEVICE`
"""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path

import torch

from emocluster_jax.benchmark.cases import Prepared
from emocluster_jax.benchmark.made_data import temporary_recordings
from emocluster_jax.benchmark.peers.librosa_features import chunks_of
from emocluster_jax.benchmark.peers.torch_networks import Network, make_network
from emocluster_jax.runtime.child_processes import end_with_parent, run_child


def predictions(recordings: int, seconds: float, device: str) -> Prepared:
    """A running process; seconds are per recording."""
    paths, folder = temporary_recordings(recordings, seconds)
    networks = make_networks(device)

    def repeat() -> None:
        for path in paths:
            predict(path, networks, device)

    predict(paths[0], networks, device)
    return Prepared(repeat, recordings, audio_seconds=recordings * seconds, close=folder.cleanup)


def whole_process(recordings: int, seconds: float, device: str) -> Prepared:
    """A whole command, from its start to its table."""
    paths, folder = temporary_recordings(recordings, seconds)

    def repeat() -> None:
        arguments = [paths[0].parent, Path(folder.name) / "table.csv", device]
        line = [sys.executable, "-m", __spec__.name, *map(str, arguments)]
        if status := run_child(line):
            raise subprocess.CalledProcessError(status, line)

    return Prepared(repeat, close=folder.cleanup)


def make_networks(device: str) -> list[Network]:
    """Three networks in evaluation mode."""
    return [make_network(1.0, device).eval() for _ in range(3)]


def predict(path: Path, networks: list[Network], device: str) -> list[float]:
    """The three attributes of a recording."""
    with torch.inference_mode():
        data = torch.from_numpy(chunks_of(path)).to(device)
        return [float(network(data)[2].mean()) for network in networks]


if __name__ == "__main__":
    end_with_parent()
    source, table, device = sys.argv[1:]
    networks = make_networks(device)
    with Path(table).open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        for path in sorted(Path(source).iterdir()):
            rows.writerow([path.name, *predict(path, networks, device)])
