"""MSP-Podcast: natural speech from podcasts, rated for arousal, dominance and valence from 1 to 7.

Lotfian & Busso, "Building Naturalistic Emotionally Balanced Speech Corpus by Retrieving Emotional Speech From Existing
Podcast Recordings", IEEE Transactions on Affective Computing 2019. The corpus is licensed to each user.
"""

from __future__ import annotations

from pathlib import Path

from emocluster_jax.corpora.audio_files import check_folder, check_inside, is_file
from emocluster_jax.corpora.gender import parse_gender
from emocluster_jax.corpora.table import Row, read_table
from emocluster_jax.corpora.unlabeled_pool import read_pool
from emocluster_jax.corpora.utterance import Utterance
from emocluster_jax.errors import InputError

LABEL_FILES = ("labels_consensus.csv", "labels_concensus.csv")
"""Spellings over the releases."""
_LABEL_FOLDERS = ("Labels", "labels", "")
_AUDIO_FOLDERS = ("Audios", "Audio", "audios", "audio", "wav", "wavs")

_SPLITS = {
    "train": "train",
    "training": "train",
    "validation": "validation",
    "development": "validation",
    "dev": "validation",
    "test": "test",
    "test1": "test",
    "test2": "test",
    "test3": None,  # its labels are kept back
}


def read(
    source: Path,
    unlabeled: Path | None = None,
    unlabeled_limit: int | None = None,
    test_sets: tuple[str, ...] = ("test", "test1", "test2"),
) -> list[Utterance]:
    """Reads a release of MSP-Podcast.

    Args:
      source: the release's folder: the label file, in it or in its folder `Labels`, and the recordings in `Audios`
        (`Audio`, `wav`).
      unlabeled: the folder of the unlabelled pool, some 500,000 recordings.
      unlabeled_limit: take this many of the pool, such as 15,000 or 40,000, which contain one another; None takes all.
      test_sets: the values of Split_Set that make up the test split, in lower case. The paper's release 1.6 has one
        test set; later ones have Test1 and Test2. Test3 has no public labels and is always left out.

    Returns:
      One row a recording, sorted by id: the path relative to `source`. A recording that is listed but does not exist
      keeps its row.

    Raises:
      InputError: a file, folder or column is missing, a label is no number, a split is unknown, or no recording exists.
    """
    check_folder(source, "the folder of an MSP-Podcast release")
    candidates = [source / folder / name for folder in _LABEL_FOLDERS for name in LABEL_FILES]
    labels = next((path for path in candidates if path.is_file()), None)
    if labels is None:
        raise InputError(
            f"{source} has no {' or '.join(LABEL_FILES)}, nor has its folder Labels; give a release's folder"
        )
    audio = next((source / name for name in _AUDIO_FOLDERS if (source / name).is_dir()), None)
    if audio is None:
        raise InputError(f"{source} has no folder Audios (nor Audio, wav); unpack the recordings there")
    table = read_table(labels)
    table.require("FileName", "EmoAct", "EmoDom", "EmoVal", "Split_Set")
    lines: dict[str, int] = {}
    utterances, left_out = [], []
    for row in table:
        name = row.text("FileName")
        if name in lines:
            raise InputError(f"{row.where}: {name} is listed twice (also line {lines[name]}); remove one")
        lines[name] = row.line
        check_inside(name, row.where)
        split = _split(row, test_sets)
        if split is None:
            left_out.append(audio / name)
        else:
            utterances.append(_utterance(row, split, source, audio / name))
    if not any(is_file(utterance.path) for utterance in utterances):
        raise InputError(
            f"{audio}: none of the {len(utterances)} recordings in {labels.name} is there; unpack the recordings there"
        )
    if unlabeled is not None:
        utterances += read_pool(unlabeled, source, utterances, unlabeled_limit, skip=left_out)
    return sorted(utterances, key=lambda utterance: utterance.id)


def _split(row: Row, test_sets: tuple[str, ...]) -> str | None:
    """The split of a line, or None where it takes no part."""
    value = row.text("Split_Set").replace(" ", "").replace("_", "").casefold()
    if value not in _SPLITS:
        raise InputError(f"{row.where}: unknown Split_Set {row.text('Split_Set')!r}; known are {', '.join(_SPLITS)}")
    split = _SPLITS[value]
    return None if split == "test" and value not in test_sets else split


def _utterance(row: Row, split: str, source: Path, path: Path) -> Utterance:
    speaker = row.text("SpkrID")
    return Utterance(
        id=path.relative_to(source).as_posix(),
        path=path,
        split=split,
        speaker=None if speaker.casefold() in ("", "unknown", "nan") else speaker,
        gender=parse_gender(row.text("Gender")),
        attributes=(row.number("EmoAct"), row.number("EmoDom"), row.number("EmoVal")),
    )
