"""My corpus: `labels.csv` (clip, person, activation, valence; from 1 to 9) beside `wav/CLIP.wav`, without a split.

`experts.csv` has the same columns, with the ratings of experts.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from emocluster_jax.corpora.audio_files import check_folder
from emocluster_jax.corpora.speaker_split import split_by_speaker
from emocluster_jax.corpora.table import read_table
from emocluster_jax.corpora.utterance import Utterance


@dataclass(frozen=True)
class MyCorpusOptions:
    """What to make of my corpus."""

    ratings: Literal["labels", "experts"] = "labels"
    """With corpus my_corpus: the table of ratings, labels.csv or experts.csv."""


_DEFAULT = MyCorpusOptions()


def read(source: Path, options: MyCorpusOptions = _DEFAULT) -> list[Utterance]:
    """One row per clip, with activation as arousal and no dominance; the split is made by speaker."""
    check_folder(source, "the folder of my corpus's labels.csv")
    table = read_table(source / f"{options.ratings}.csv")
    table.require("clip", "person", "activation", "valence")
    splits = split_by_speaker([row.text("person") for row in table], str(table.path))
    return [
        Utterance(
            id=f"wav/{row.text('clip')}.wav",
            path=source / "wav" / f"{row.text('clip')}.wav",
            split=splits[row.text("person")],
            speaker=row.text("person"),
            labels={"arousal": row.number("activation"), "valence": row.number("valence")},
        )
        for row in table
    ]
