"""Recordings whose names and speakers try to leave the text of a page."""

from __future__ import annotations

import math
from pathlib import Path

from emocluster_jax.corpora.utterance import Utterance
from small_models import noise, write_recording
from small_records import vad

HOSTILE_ID = "a<script>window.hacked = true</script>\"'&amp;<b onmouseover='hacked=1'>%{x}${y}{{ 7 * 7 }}\n漢é.wav"
HOSTILE_SPEAKER = "</script><img src=x onerror='window.hacked = true'>"
SIZES = {"train": 14, "validation": 4, "test": 5}


def write_hostile_corpus(source: Path) -> list[Utterance]:
    """Noises of 0.2 to 2.15 seconds; a slash in a name is a folder's end."""
    utterances = []
    for split, size in SIZES.items():
        for i in range(size):
            id = HOSTILE_ID if (split, i) == ("train", 3) else f"{split}/{i}.wav"
            path = source / id
            path.parent.mkdir(exist_ok=True)
            write_recording(path, noise(0.2 + 0.15 * i, seed=len(utterances)))
            speaker, gender = (HOSTILE_SPEAKER, "male") if i % 2 else ("Zoë", "female")
            utterances.append(Utterance(id, path, split, speaker, gender, vad(1.0 + i % 5, math.nan, 3 + i / 8)))
    return utterances
