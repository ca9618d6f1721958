"""Files to normalised chunks with librosa, one file after another on one core."""

from __future__ import annotations

from pathlib import Path

import librosa
import numpy as np

from emocluster_jax.benchmark.cases import Prepared
from emocluster_jax.benchmark.made_data import temporary_recordings

CHUNKS, FRAMES, BANDS = 11, 62, 128


def features(recordings: int, seconds: float) -> Prepared:
    """Computes the chunks of `recordings` recordings per repetition, in memory."""
    paths, folder = temporary_recordings(recordings, seconds)

    def repeat() -> None:
        for path in paths:
            chunks_of(path)

    chunks_of(paths[0])
    return Prepared(repeat, recordings, audio_seconds=recordings * seconds, close=folder.cleanup)


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
