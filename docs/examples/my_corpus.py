"""My corpus: `labels.csv` (clip, person, activation, valence; from 1 to 9) beside `wav/CLIP.wav`, without a split."""

from __future__ import annotations

import math
from pathlib import Path

from emocluster_jax.corpora.audio_files import check_folder
from emocluster_jax.corpora.speaker_split import split_by_speaker
from emocluster_jax.corpora.table import read_table
from emocluster_jax.corpora.utterance import Utterance


def read(source: Path) -> list[Utterance]:
    """One row a clip, with activation as arousal and no dominance; the split is made by speaker."""
    check_folder(source, "the folder of my corpus's labels.csv")
    table = read_table(source / "labels.csv")
    table.require("clip", "person", "activation", "valence")
    splits = split_by_speaker([row.text("person") for row in table], str(table.path))
    return [
        Utterance(
            id=f"wav/{row.text('clip')}.wav",
            path=source / "wav" / f"{row.text('clip')}.wav",
            split=splits[row.text("person")],
            speaker=row.text("person"),
            attributes=(row.number("activation"), math.nan, row.number("valence")),
        )
        for row in table
    ]
