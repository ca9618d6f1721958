"""MSP-Podcast: small corpora in the layouts of several releases."""

from __future__ import annotations

import pytest

from emocluster_jax.corpora import msp_podcast
from emocluster_jax.errors import InputError

HEADER = "FileName,EmoClass,EmoAct,EmoVal,EmoDom,SpkrID,Gender,Split_Set\n"
ROWS = [
    "MSP-PODCAST_0001_0008.wav,N,2.2,4.0,4.6,127,Male,Test1\n",
    "MSP-PODCAST_0001_0019.wav,N,4.0,4.2,4.8,127,Male,Test2\n",
    "MSP-PODCAST_0002_0033.wav,H,5.1,5.5,5.0,9,Female,Train\n",
    "MSP-PODCAST_0002_0039.wav,A,6.2,1.8,6.0,Unknown,Unknown,Development\n",
]
NAMES = [row.split(",")[0] for row in ROWS]


@pytest.fixture
def release(tmp_path, write_wavs, write_text):
    folder = tmp_path / "release"
    write_wavs(folder / "Audios", *NAMES)
    write_text(folder / "Labels/labels_consensus.csv", HEADER + "".join(ROWS))
    return folder


def test_a_late_release(release):
    utterances = msp_podcast.read(release)
    assert [u.id for u in utterances] == [f"Audios/{name}" for name in NAMES]
    assert [u.split for u in utterances] == ["test", "test", "train", "validation"]
    assert [u.speaker for u in utterances] == ["127", "127", "9", None]
    assert [u.gender for u in utterances] == ["male", "male", "female", None]
    assert utterances[2].attributes == (5.1, 5.0, 5.5)  # arousal, dominance, valence
    assert all(u.path.is_file() for u in utterances)


def test_one_test_set_alone(release):
    assert [u.id for u in msp_podcast.read(release, test_sets=("test1",)) if u.split == "test"] == [
        f"Audios/{NAMES[0]}"
    ]


def test_an_early_release(tmp_path, write_wavs, write_text):
    """The older spelling, in the root, other letter case, no genders, one test set."""
    write_wavs(tmp_path / "wav", *NAMES)
    write_text(
        tmp_path / "labels_concensus.csv",
        f"filename,emoact,emodom,emoval,spkrid,split_set\n{NAMES[0]},1,2,3,7,Test\n{NAMES[1]},4,5,6,8,Validation\n",
    )
    first, second = msp_podcast.read(tmp_path)
    assert (first.split, first.attributes, first.gender) == ("test", (1.0, 2.0, 3.0), None)
    assert second.split == "validation"


def test_test3_has_no_labels_and_takes_no_part(release, write_text):
    row = "MSP-PODCAST_0003_0001.wav,,,,,,,Test3\n"
    write_text(release / "Labels/labels_consensus.csv", HEADER + "".join(ROWS) + row)
    assert len(msp_podcast.read(release)) == 4


def test_the_unlabelled_pool(release, tmp_path, write_text):
    pool = tmp_path / "pool"
    for number in range(300):
        (pool / f"{number % 7}").mkdir(parents=True, exist_ok=True)
        (pool / f"{number % 7}" / f"u{number}.wav").touch()
    sizes = {limit: msp_podcast.read(release, pool, limit) for limit in (0, 15, 40, None)}
    pools = {limit: {u.id for u in rows if u.split == "unlabeled"} for limit, rows in sizes.items()}
    assert [len(ids) for ids in pools.values()] == [0, 15, 40, 300]
    assert pools[15] < pools[40] < pools[None]
    assert all(identifier.startswith("pool/") for identifier in pools[None])


def test_the_pool_never_holds_recordings_of_the_corpus(release, write_wavs, write_text):
    """Not even those of Test3, which are left out of the corpus."""
    write_wavs(release / "Audios", "MSP-PODCAST_0003_0001.wav", "MSP-PODCAST_9999_0001.wav")
    row = "MSP-PODCAST_0003_0001.wav,,,,,,,Test3\n"
    write_text(release / "Labels/labels_consensus.csv", HEADER + "".join(ROWS) + row)
    pool = [u.path.name for u in msp_podcast.read(release, release / "Audios") if u.split == "unlabeled"]
    assert pool == ["MSP-PODCAST_9999_0001.wav"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (HEADER.replace("EmoDom", "Dominance") + ROWS[0], "no column 'EmoDom'; it has FileName, EmoClass"),
        (HEADER + ROWS[0].replace("Test1", "Test4"), "line 2: unknown Split_Set 'Test4'; known are train"),
        (HEADER + ROWS[0].replace("2.2", "calm"), "line 2: EmoAct is 'calm'"),
        (HEADER + ROWS[0] + ROWS[0], r"line 3: MSP-PODCAST_0001_0008.wav is listed twice \(also line 2\)"),
        (HEADER + ROWS[0].replace("0001", "0009"), "none of the 1 recordings"),
    ],
)
def test_complaints(release, write_text, text, message):
    write_text(release / "Labels/labels_consensus.csv", text)
    with pytest.raises(InputError, match=message):
        msp_podcast.read(release)


def test_missing_folders(release, tmp_path):
    with pytest.raises(InputError, match="give the folder of an MSP-Podcast release"):
        msp_podcast.read(tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"has no labels_consensus\.csv or labels_concensus\.csv"):
        msp_podcast.read(tmp_path)
    (release / "Audios").rename(release / "Sounds")
    with pytest.raises(InputError, match="has no folder Audios"):
        msp_podcast.read(release)


@pytest.mark.parametrize("name", ["../elsewhere.wav", "x/../../elsewhere.wav", "/etc/passwd", "x/..", ""])
def test_a_table_cannot_lead_out_of_the_corpus(release, write_text, name):
    path = write_text(release / "Labels/labels_consensus.csv", HEADER + "".join(ROWS) + ROWS[0].replace(NAMES[0], name))
    with pytest.raises(InputError, match=rf"line 6: '{name}' leads out of the corpus's folder") as caught:
        msp_podcast.read(release)
    assert str(path) in str(caught.value)
