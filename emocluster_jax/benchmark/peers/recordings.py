"""Recordings one after another: to normalised chunks with librosa, and on through three networks.

The `runtime` is PyTorch's "cpu" or "cuda", or "onnx" for ONNX Runtime. As a command:
`python -m emocluster_jax.benchmark.peers.recordings FOLDER TABLE.csv RUNTIME [GRAPH.onnx ...]`
"""

from __future__ import annotations

import csv
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import librosa
import numpy as np

from emocluster_jax.benchmark.cases import Prepared
from emocluster_jax.benchmark.made_data import temporary_recordings
from emocluster_jax.runtime.child_processes import end_with_parent, run_child

Network = Callable[[np.ndarray], float]
"""From a recording's chunks to the mean of its attribute."""
CHUNKS, FRAMES, BANDS = 11, 62, 128


def features(recordings: int, seconds: float) -> Prepared:
    """Computes the chunks of `recordings` recordings per repetition, in memory, on one core."""
    paths, folder = temporary_recordings(recordings, seconds)

    def repeat() -> None:
        for path in paths:
            chunks_of(path)

    chunks_of(paths[0])
    return Prepared(repeat, recordings, audio_seconds=recordings * seconds, close=folder.cleanup)


def predictions(recordings: int, seconds: float, runtime: str) -> Prepared:
    """A running process; seconds are per recording."""
    paths, folder = temporary_recordings(recordings, seconds)
    networks = make_networks(runtime, _drawn_graphs(Path(folder.name)) if runtime == "onnx" else [])

    def repeat() -> None:
        for path in paths:
            predict(path, networks)

    predict(paths[0], networks)
    return Prepared(repeat, recordings, audio_seconds=recordings * seconds, close=folder.cleanup)


def whole_process(recordings: int, seconds: float, runtime: str) -> Prepared:
    """A whole command, from its start to its table."""
    paths, folder = temporary_recordings(recordings, seconds)
    graphs = _drawn_graphs(Path(folder.name)) if runtime == "onnx" else []

    def repeat() -> None:
        arguments = [paths[0].parent, Path(folder.name) / "table.csv", runtime, *graphs]
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


def make_networks(runtime: str, graphs: Sequence[Path]) -> list[Network]:
    """Three networks in PyTorch on a device, or those of the graphs in ONNX Runtime."""
    if runtime == "onnx":
        import onnxruntime

        def in_onnx(session: onnxruntime.InferenceSession) -> Network:
            return lambda chunks: float(np.asarray(session.run(["attributes"], {"chunks": chunks})[0]).mean())

        return [in_onnx(onnxruntime.InferenceSession(graph)) for graph in graphs]
    import torch

    from emocluster_jax.benchmark.peers.torch_networks import make_network

    def in_torch(network: torch.nn.Module) -> Network:
        def predict(chunks: np.ndarray) -> float:
            with torch.inference_mode():
                return float(network(torch.from_numpy(chunks).to(runtime))[2].mean())

        return predict

    return [in_torch(make_network(1.0, runtime).eval()) for _ in range(3)]


def predict(path: Path, networks: Sequence[Network]) -> list[float]:
    """The three attributes of a recording."""
    chunks = chunks_of(path)
    return [network(chunks) for network in networks]


def _drawn_graphs(folder: Path) -> list[Path]:
    from emocluster_jax.benchmark.peers.onnx_networks import graphs

    paths = []
    for i, graph in enumerate(graphs()):
        paths.append(folder / f"model-{i}.onnx")
        paths[-1].write_bytes(graph)
    return paths


if __name__ == "__main__":
    end_with_parent()
    source, table, runtime, *graphs = sys.argv[1:]
    networks = make_networks(runtime, [Path(graph) for graph in graphs])
    with Path(table).open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        for path in sorted(Path(source).iterdir()):
            rows.writerow([path.name, *predict(path, networks)])
