"""Files to normalised chunks with librosa, one file after another on one core."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import librosa
import numpy as np

from emocluster_jax.benchmark.cases import Prepared
from emocluster_jax.benchmark.recordings import write_recordings

CHUNKS, FRAMES, BANDS = 11, 62, 128


def features(recordings: int, seconds: float) -> Prepared:
    """Chunks of `recordings` recordings a repetition, kept in memory."""
    folder = tempfile.TemporaryDirectory()
    paths = write_recordings(Path(folder.name), recordings, seconds)
    mean, std = np.ones(BANDS, np.float32), np.full(BANDS, 3, np.float32)

    def repeat() -> dict[str, float]:
        started = time.perf_counter()
        for path in paths:
            chunks_of(path, mean, std)
        return {"times real time": recordings * seconds / (time.perf_counter() - started)}

    chunks_of(paths[0], mean, std)
    return Prepared(repeat, recordings, close=folder.cleanup)


def chunks_of(path: Path, mean: np.ndarray, std: np.ndarray) -> np.ndarray:
    """(11, 62, 128) float32 of a recording that is at least a second long."""
    signal, rate = librosa.load(path, sr=None, mono=True)
    signal = librosa.resample(signal, orig_sr=rate, target_sr=16_000, res_type="soxr_hq")
    signal = signal / np.abs(signal).max()
    mel = librosa.feature.melspectrogram(
        y=signal, sr=16_000, n_fft=512, hop_length=256, n_mels=BANDS, pad_mode="constant"
    )
    normalized = ((mel.T - mean) / std).clip(-3, 3)
    step = (len(normalized) - FRAMES) // (CHUNKS - 1)
    return np.stack([normalized[i * step : i * step + FRAMES] for i in range(CHUNKS)])
