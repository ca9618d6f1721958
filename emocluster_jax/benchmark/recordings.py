"""Synthetic recordings for the suites that begin with audio files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile

RATE_HZ = 48_000
_LONG_RATE_HZ = 24_000
_DIFFERENT = 40


def write_recordings(folder: Path, count: int, seconds: float) -> list[Path]:
    """Writes bursts of noise over a tone, 16 bit, stereo, 48 kHz: what speech corpora are often kept in.

    Some 40 files differ; the others are links to them, which spares the disk.
    """
    rng = np.random.default_rng(0)
    time = np.arange(round(seconds * RATE_HZ)) / RATE_HZ
    paths = [folder / f"{i:05d}.wav" for i in range(count)]
    for path in paths[:_DIFFERENT]:
        bursts = np.sin(2 * np.pi * rng.uniform(2, 5) * time) > 0
        signal = 0.3 * np.sin(2 * np.pi * rng.uniform(80, 300) * time) + 0.2 * bursts * rng.standard_normal(len(time))
        soundfile.write(path, np.stack([signal, 0.8 * signal], axis=1).clip(-1, 1), RATE_HZ, subtype="PCM_16")
    for i, path in enumerate(paths[_DIFFERENT:]):
        path.symlink_to(paths[i % _DIFFERENT])
    return paths


def write_long_recording(path: Path, hours: float) -> Path:
    """Writes a FLAC file of a voice-like tone and noise, mono, 24 kHz: the same minute again and again."""
    rng = np.random.default_rng(0)
    time = np.arange(60 * _LONG_RATE_HZ) / _LONG_RATE_HZ
    tone = 0.3 * np.sin(2 * np.pi * 150 * time) * np.sin(2 * np.pi * 0.3 * time)
    minute = (tone + 0.02 * rng.standard_normal(len(time))).astype(np.float32)
    with soundfile.SoundFile(path, "w", _LONG_RATE_HZ, 1, format="FLAC", subtype="PCM_16") as file:
        for _ in range(round(hours * 60)):
            file.write(minute)
    return path
