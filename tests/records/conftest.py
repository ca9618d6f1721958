"""A small corpus of real audio files, good and bad."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import soundfile

from emocluster_jax.corpora.utterance import Utterance
from small_records import vad

SIZES = {"train": 40, "validation": 4, "test": 3, "unlabeled": 18}


def write_corpus(folder: Path) -> list[Utterance]:
    """Noise of 0.3 to 2.2 seconds in WAV, FLAC and MP3, some of it without labels, two recordings unusable."""
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True)
    utterances = []
    for split, size in SIZES.items():
        for i in range(size):
            name = f"{split}-{i:03d}.{('wav', 'flac', 'mp3')[i % 3]}"
            rate = (16_000, 22_050)[i % 2]
            signal = rng.standard_normal(int(rate * (0.3 + 0.05 * (i % 40)))) * rng.uniform(0.01, 0.2)
            if name == "train-021.wav":
                signal[:] = 0
            soundfile.write(folder / name, signal, rate)
            if name == "unlabeled-004.flac":
                (folder / name).write_bytes((folder / name).read_bytes()[:-500])
            labels = {} if split == "unlabeled" else vad(float(i % 7), 3.0 + i / 8, math.nan)
            gender = ("female", "male", None)[i % 3]
            speaker = None if split == "unlabeled" else f"speaker{i % 5}"
            utterances.append(Utterance(name, folder / name, split, speaker, gender, labels))
    return utterances


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> list[Utterance]:
    return write_corpus(tmp_path_factory.mktemp("corpus") / "audio")
