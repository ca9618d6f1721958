"""Recordings one after another: to normalised chunks with librosa, and on through three networks in PyTorch.

As a command: `python -m emocluster_jax.benchmark.peers.recordings FOLDER TABLE.csv DEVICE`
"""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import librosa
import numpy as np

from emocluster_jax.benchmark.cases import Prepared
from emocluster_jax.benchmark.made_data import temporary_recordings
from emocluster_jax.runtime.child_processes import end_with_parent, run_child

if TYPE_CHECKING:  # chunks are made without PyTorch
    from emocluster_jax.benchmark.peers.torch_networks import Network

CHUNKS, FRAMES, BANDS = 11, 62, 128


def features(recordings: int, seconds: float) -> Prepared:
    """Computes the chunks of `recordings` recordings per repetition, in memory, on one core."""
    paths, folder = temporary_recordings(recordings, seconds)

    def repeat() -> None:
        for path in paths:
            chunks_of(path)

    chunks_of(paths[0])
    return Prepared(repeat, recordings, audio_seconds=recordings * seconds, close=folder.cleanup)


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


def chunks_of(path: Path) -> np.ndarray:
    """(11, 62, 128) float32 of a recording that is at least a second long."""
    mean, std = np.ones(BANDS, np.float32), np.full(BANDS, 3, np.float32)
    signal, rate = librosa.load(path, sr=None, mono=True)
    signal = librosa.resample(signal, orig_sr=rate, target_sr=16_000, res_type="soxr_hq")
    signal = signal / np.abs(signal).max()
    mel = librosa.feature.melspectrogram(
        y=signal, sr=16_000, n_fft=512, hop_length=256, n_mels=BANDS, pad_mode="constant"
    )
    normalized = ((mel.T - mean) / std).clip(-3, 3)
    step = (len(normalized) - FRAMES) // (CHUNKS - 1)
    return np.stack([normalized[i * step : i * step + FRAMES] for i in range(CHUNKS)])


def make_networks(device: str) -> list[Network]:
    from emocluster_jax.benchmark.peers.torch_networks import make_network

    return [make_network(1.0, device).eval() for _ in range(3)]


def predict(path: Path, networks: list[Network], device: str) -> list[float]:
    """The three attributes of a recording."""
    import torch

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
