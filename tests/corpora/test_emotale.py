"""EmoTale: the part with its own split, the clone as published, and what is wrong with others."""

from __future__ import annotations

from collections import Counter

import pytest

from emocluster_jax.corpora import emotale as emotale_corpus
from emocluster_jax.corpora.emotale import EmotaleOptions
from emocluster_jax.corpora.registry import options_of
from emocluster_jax.errors import InputError
from small_records import vad

HEADER = "file,a1_A,a1_V,a1_D,a1_cat,a2_A,a2_V,a2_D,a2_cat,a3_A,a3_V,a3_D,a3_cat,gt_emotion\n"


def annotation(name: str) -> str:
    return f"{name},4.0,1.5,4.5,A,4.0,2.5,5.0,A,5.0,1.0,4.5,A,A\n"


@pytest.fixture
def clone(tmp_path, write_wavs, write_text):
    """A clone as published: wav names, both languages, audio in folders, no split."""
    names = [f"{language}_{speaker}_A_1.wav" for language in ("DK", "EN") for speaker in ("001", "005", "008")]
    write_wavs(tmp_path, *(f"recordings/{name[:2]}/{name}" for name in names))
    write_text(tmp_path / "annotations.csv", HEADER + "".join(map(annotation, names)))
    write_text(tmp_path / "speaker_info.csv", "speaker,gender,age\n1,F,22\n005,M,24\n")
    return tmp_path


def test_the_part_with_its_own_split(emotale):
    utterances = emotale_corpus.read(emotale)
    counts = Counter(u.split for u in utterances)
    assert counts == {"train": 275, "validation": 75, "test": 100, "unlabeled": 225}
    assert [u.id for u in utterances] == sorted(u.id for u in utterances)
    assert all(u.path.is_file() and u.path == emotale / u.id for u in utterances)
    first = utterances[0]
    assert (first.id, first.split, first.speaker, first.gender) == ("audio/DK_001_A_1.flac", "train", "001", "female")
    # Ratings 4, 4, 5 of arousal; 4.5, 5, 4.5 of dominance; 1.5, 2.5, 1 of valence.
    assert first.labels == pytest.approx(vad(13 / 3, 14 / 3, 5 / 3))
    assert not any(u.has_labels for u in utterances if u.split == "unlabeled")
    held_out = {u.speaker for u in utterances if u.split in ("validation", "test")}
    assert held_out == set(emotale_corpus.HELD_OUT)
    assert held_out.isdisjoint(u.speaker for u in utterances if u.split in ("train", "unlabeled"))


def test_a_clone_gets_the_same_split(emotale, tmp_path):
    """The published layout of the same recordings: wav names in the table, no splits.csv, no unlabeled.csv."""
    (tmp_path / "annotations.csv").write_text((emotale / "annotations.csv").read_text().replace(".flac", ".wav"))
    (tmp_path / "audio").symlink_to(emotale / "audio")
    labeled = {u.id: u for u in emotale_corpus.read(emotale) if u.split != "unlabeled"}
    clone = {u.id: u for u in emotale_corpus.read(tmp_path)}
    assert {name: (u.split, u.labels) for name, u in clone.items()} == {
        name: (u.split, u.labels) for name, u in labeled.items()
    }


def test_both_languages_of_a_clone(clone):
    utterances = emotale_corpus.read(clone)
    assert {u.id: u.split for u in utterances} == {
        "recordings/DK/DK_001_A_1.wav": "train",
        "recordings/DK/DK_005_A_1.wav": "test",
        "recordings/DK/DK_008_A_1.wav": "validation",
        "recordings/EN/EN_001_A_1.wav": "train",
        "recordings/EN/EN_005_A_1.wav": "test",
        "recordings/EN/EN_008_A_1.wav": "validation",
    }
    assert [u.gender for u in utterances[:3]] == ["female", "male", None]


def test_english_as_a_pool_without_held_out_speakers(clone):
    utterances = emotale_corpus.read(clone, EmotaleOptions("unlabeled"))
    assert [u.id for u in utterances if u.split == "unlabeled"] == ["recordings/EN/EN_001_A_1.wav"]
    assert len(utterances) == 4
    assert options_of("emotale", {"english": "unlabeled"}) == EmotaleOptions("unlabeled")
    with pytest.raises(InputError, match="english is 'pool'; expected one of labeled, unlabeled"):
        options_of("emotale", {"english": "pool"})
    with pytest.raises(InputError, match="`english` belongs to `corpus=emotale`, not to iemocap"):
        options_of("iemocap", {"english": "unlabeled"})
    with pytest.raises(InputError, match="`danish` is not an option of emotale"):
        options_of("emotale", {"danish": "unlabeled"})


def test_a_missing_recording_keeps_its_row(clone):
    (clone / "recordings/DK/DK_001_A_1.wav").unlink()
    assert sum(u.path.is_file() for u in emotale_corpus.read(clone)) == 5


def test_recordings_in_no_split_are_left_out(clone, write_text, caplog):
    write_text(clone / "splits.csv", "file,speaker,split\nDK_001_A_1.flac,001,train\nDK_005_A_1.wav,005,test\n")
    write_text(clone / "unlabeled.csv", "file\nEN_001_A_1.wav\n")
    assert sorted(u.split for u in emotale_corpus.read(clone)) == ["test", "train", "unlabeled"]
    assert "3 annotated recordings belong to no split" in caplog.text


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("annotations.csv", HEADER.replace("file", "name") + annotation("a"), "no column 'file'"),
        ("annotations.csv", "file,a1_A,a1_V\nDK_001_A_1.wav,1,2\n", "no column 'a1_D'"),
        (
            "annotations.csv",
            HEADER + annotation("DK_001_A_1.wav").replace("5.0,1.0", "5.0,low"),
            "line 2: a3_V is 'low'",
        ),
        (
            "annotations.csv",
            HEADER + annotation("DK_001_A_1.wav").replace("5.0,1.0", "5.0,4e30"),
            r"line 2: a3_V is 4e\+30; expected a number from -1000000",
        ),
        ("annotations.csv", HEADER + 2 * annotation("DK_001_A_1.wav"), "line 3: DK_001_A_1.wav is listed twice"),
        ("annotations.csv", HEADER + annotation("XX_1.wav"), "none of the 1 listed recordings exists"),
        ("splits.csv", "file\nDK_001_A_1.wav\n", "no column 'split'"),
        ("splits.csv", "file,split\nDK_001_A_1.wav,later\n", "unknown split 'later'"),
        ("splits.csv", "file,split\nDK_999_A_1.wav,train\n", "not in annotations.csv"),
        ("unlabeled.csv", "file\nDK_001_A_1.wav\n", "has a split already"),
        ("speaker_info.csv", "speaker,age\n001,22\n", "no column 'gender'"),
    ],
)
def test_complaints(clone, write_text, file, text, message):
    write_text(clone / file, text)
    with pytest.raises(InputError, match=message):
        emotale_corpus.read(clone)


def test_no_folder_and_no_table(tmp_path):
    with pytest.raises(InputError, match=r"nowhere does not exist; give the folder of EmoTale"):
        emotale_corpus.read(tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"annotations\.csv does not exist"):
        emotale_corpus.read(tmp_path)


@pytest.mark.parametrize("name", ["../elsewhere.wav", "/etc/passwd", ""])
def test_a_table_cannot_lead_out_of_the_corpus(clone, name):
    with (clone / "annotations.csv").open("a") as file:
        file.write(annotation(name))
    with pytest.raises(InputError, match=f"line 8: '{name}' leads out of the corpus's folder"):
        emotale_corpus.read(clone)
