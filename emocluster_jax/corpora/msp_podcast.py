"""MSP-Podcast: natural speech from podcasts, rated for arousal, dominance and valence from 1 to 7.

Lotfian & Busso, "Building Naturalistic Emotionally Balanced Speech Corpus by Retrieving Emotional Speech From Existing
Podcast Recordings", IEEE Transactions on Affective Computing 2019. The corpus is licensed to each user.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from emocluster_jax.corpora.audio_files import check_folder, check_inside
from emocluster_jax.corpora.table import Row, Table, read_json_table, read_table, read_text
from emocluster_jax.corpora.unlabeled_pool import lowercase_stem, read_pool
from emocluster_jax.corpora.utterance import Utterance, checked_rows, parse_gender, parse_speaker, sorted_rows
from emocluster_jax.errors import InputError

LABEL_FILES = ("labels_consensus.csv", "labels_concensus.csv", "labels_consensus.json", "labels_concensus.json")
"""The names in different releases; the first one that exists is read."""
TEST_SETS = ("test", "test1", "test2")
"""The test sets with public labels, of all releases."""
_LABEL_FOLDERS = ("Labels", "labels", "")
_AUDIO_FOLDERS = ("Audios", "Audio", "audios", "audio", "wav", "wavs")

_SPLITS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("validation", "development", "dev"), "validation"),
    **dict.fromkeys(TEST_SETS, "test"),
    "test3": None,  # its labels are not public
}
_LABELS = {"arousal": "EmoAct", "dominance": "EmoDom", "valence": "EmoVal"}


@dataclass(frozen=True)
class MspPodcastOptions:
    """What to make of MSP-Podcast."""

    test_sets: tuple[str, ...] = TEST_SETS
    """With corpus msp_podcast: values of Split_Set that make up the test split; case and blanks do not matter."""


_DEFAULT = MspPodcastOptions()


def read(
    source: Path,
    unlabeled: Path | None = None,
    unlabeled_limit: int | None = None,
    options: MspPodcastOptions = _DEFAULT,
) -> list[Utterance]:
    """Reads a release of MSP-Podcast: one row per recording, sorted by id, also where it is listed but does not exist.

    Args:
      source: the release's folder: the label file (CSV, or JSON in newer releases), in it or in its folder `Labels`,
        and the recordings in `Audios` (`Audio`, `wav`).
      unlabeled: the folder of the unlabelled pool, some 500,000 recordings. Recordings that the label file or
        `Partitions.txt` names, in whatever split, are left out of it.
      unlabeled_limit: take this many of the pool, as `read_pool` does.
      options: `test_sets` are the values of Split_Set that make up the test split; by default all that have labels. The
        paper's release 1.6 has one test set; later ones have Test1 and Test2. Test3 has no public labels and is always
        left out.

    Raises:
      InputError: a file, folder or column is missing, a label is not a number, a split is unknown, a requested test set
        has no rows, or no recording exists.
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
    table = read_json_table(labels, "FileName") if labels.suffix == ".json" else read_table(labels)
    table.require("FileName", *_LABELS.values(), "Split_Set")
    chosen = _test_sets(options.test_sets, table)
    places: dict[str, str] = {}
    utterances = []
    for row in table:
        name = row.text("FileName")
        if name in places:
            raise InputError(f"{row.where}: {name} is listed twice (also {places[name]}); remove one")
        places[name] = row.place
        check_inside(name, row.where)
        split = _split(row, chosen)
        if split is None:
            continue
        utterances.append(
            Utterance(
                id=(audio / name).relative_to(source).as_posix(),
                path=audio / name,
                split=split,
                speaker=parse_speaker(row.text("SpkrID")),
                gender=parse_gender(row.text("Gender")),
                labels={label: row.label(column) for label, column in _LABELS.items()},
            )
        )
    utterances = checked_rows(utterances, audio, "unpack the recordings there")
    if unlabeled is None:
        return utterances
    # Lines such as `Test3; MSP-PODCAST_1.wav`.
    partitions = source / "Partitions.txt"
    lines = read_text(partitions).splitlines() if partitions.exists() else []
    named = {lowercase_stem(name) for name in (*places, *(line.rpartition(";")[2].strip() for line in lines))}
    return sorted_rows([*utterances, *read_pool(unlabeled, source, utterances, unlabeled_limit, skip=named)])


def _test_sets(asked: tuple[str, ...], table: Table) -> set[str]:
    """The requested test sets, in plain spelling; InputError if one has no rows, unless they are the default."""
    there = {_plain(row.text("Split_Set")): row.text("Split_Set") for row in table}
    there = {name: spelling for name, spelling in there.items() if _SPLITS.get(name) == "test"}
    chosen = {_plain(value): value for value in asked}
    absent = [value for name, value in chosen.items() if name not in there]
    if absent and set(chosen) != set(TEST_SETS):
        raise InputError(
            f"`test_sets={' '.join(absent)}`: {table.path} has no labels of such a test set; "
            f"its test sets are: {', '.join(sorted(there.values())) or 'none'}"
        )
    return set(chosen)


def _plain(split_set: str) -> str:
    """A value of Split_Set in lower case, without blanks and underscores."""
    return "".join(split_set.split()).replace("_", "").casefold()


def _split(row: Row, test_sets: set[str]) -> str | None:
    """The split of a row; None if it is not used."""
    value = _plain(row.text("Split_Set"))
    if value not in _SPLITS:
        raise InputError(f"{row.where}: unknown Split_Set {row.text('Split_Set')!r}; known are {', '.join(_SPLITS)}")
    split = _SPLITS[value]
    return None if split == "test" and value not in test_sets else split
