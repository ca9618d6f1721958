"""MSP-Podcast: small corpora in the layouts of several releases."""

from __future__ import annotations

import json
import math

import pytest

from emocluster_jax.corpora import msp_podcast
from emocluster_jax.corpora.msp_podcast import MspPodcastOptions
from emocluster_jax.errors import InputError
from small_records import vad

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
    assert utterances[2].labels == {"arousal": 5.1, "dominance": 5.0, "valence": 5.5}
    assert all(u.path.is_file() for u in utterances)


def test_one_test_set_alone(release):
    assert [u.id for u in msp_podcast.read(release, options=MspPodcastOptions(("test1",))) if u.split == "test"] == [
        f"Audios/{NAMES[0]}"
    ]


@pytest.mark.parametrize("test_sets", [("Test1",), ("TEST 1",), ("test_1", "Test1")])
def test_test_sets_are_named_in_any_case_and_with_blanks(release, test_sets):
    assert [u.id for u in msp_podcast.read(release, options=MspPodcastOptions(test_sets)) if u.split == "test"] == [
        f"Audios/{NAMES[0]}"
    ]


@pytest.mark.parametrize(
    ("test_sets", "message"),
    [
        (("nonsense",), r"`test_sets=nonsense`: .*labels_consensus\.csv has no .*its test sets are: Test1, Test2$"),
        (("Test1", "Test5", "Train"), r"`test_sets=Test5 Train`: "),
        (("Test3",), r"`test_sets=Test3`: .* its test sets are: Test1, Test2"),
    ],
)
def test_test_sets_that_no_row_has_are_refused(release, write_text, test_sets, message):
    row = "MSP-PODCAST_0003_0001.wav,,,,,,,Test3\n"
    write_text(release / "Labels/labels_consensus.csv", HEADER + "".join(ROWS) + row)
    with pytest.raises(InputError, match=message):
        msp_podcast.read(release, options=MspPodcastOptions(test_sets))


def test_a_release_whose_labels_are_json(release, write_text):
    """As 1.12 and later have them: numbers or texts, null, and nothing but JSON."""
    keys = HEADER.strip().split(",")[1:]
    entries = {row.split(",")[0]: dict(zip(keys, row.strip().split(",")[1:], strict=True)) for row in ROWS}
    entries[NAMES[2]].update(EmoAct=5.1, EmoDom=5, SpkrID=9)
    entries[NAMES[3]].update(SpkrID=None, EmoVal=float("nan"))
    expected = msp_podcast.read(release)
    (release / "Labels/labels_consensus.csv").unlink()
    write_text(release / "Labels/labels_consensus.json", json.dumps(entries))
    *known, last = msp_podcast.read(release)
    assert known == expected[:3]
    assert (last.speaker, last.labels["arousal"], last.labels["dominance"]) == (None, 6.2, 6.0)
    assert math.isnan(last.labels["valence"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "labels_consensus.json is not readable as JSON"),
        ("[" * 100_000, "labels_consensus.json is not readable as JSON"),
        ("{}", "is empty"),
        ('["a.wav"]', "expected a JSON object that has an object for each recording"),
        ('{"a.wav": 3}', "expected a JSON object that has an object for each recording"),
        ('{"a.wav": {"EmoAct": 1}}', "no column 'EmoDom'; it has FileName, EmoAct"),
        ('{"a.wav": {"EmoAct": 1, "emoact": 2}}', r"entry 1 \(a\.wav\) has 'emoact' twice"),
        (
            '{"a.wav": {"EmoAct": "calm", "EmoDom": 1, "EmoVal": 1, "Split_Set": "Train"}}',
            r"labels_consensus\.json, entry 1 \(a\.wav\): EmoAct is 'calm'",
        ),
        (
            '{"a.wav": {"EmoAct": 1, "EmoDom": 1, "EmoVal": 4e39, "Split_Set": "Train"}}',
            r"labels_consensus\.json, entry 1 \(a\.wav\): EmoVal is 4e\+39; expected a number from -1000000 to 1000000",
        ),
        (
            '{"a.wav": {"EmoAct": [1], "EmoDom": 1, "EmoVal": 1, "Split_Set": "Train"}}',
            r"entry 1 \(a\.wav\): EmoAct is '\[1\]'",
        ),
        (
            '{"a.wav": {"EmoAct": 1, "EmoDom": 1, "EmoVal": 1, "Split_Set": "Train"}, "a.wav": {"Split_Set": "Train"}}',
            r"entry 2 \(a\.wav\): a\.wav is listed twice \(also entry 1 \(a\.wav\)\)",
        ),
        ('{"a.wav": {"EmoAct": 1, "EmoDom": 1, "EmoVal": 1}}', "no column 'Split_Set'"),
    ],
)
def test_complaints_about_json(release, write_text, text, message):
    (release / "Labels/labels_consensus.csv").unlink()
    write_text(release / "Labels/labels_consensus.json", text)
    with pytest.raises(InputError, match=message):
        msp_podcast.read(release)


def test_an_early_release(tmp_path, write_wavs, write_text):
    """The older spelling, in the root, other letter case, no genders, one test set."""
    write_wavs(tmp_path / "wav", *NAMES)
    write_text(
        tmp_path / "labels_concensus.csv",
        f"filename,emoact,emodom,emoval,spkrid,split_set\n{NAMES[0]},1,2,3,7,Test\n{NAMES[1]},4,5,6,8,Validation\n",
    )
    first, second = msp_podcast.read(tmp_path)
    assert (first.split, first.labels, first.gender) == ("test", vad(1.0, 2.0, 3.0), None)
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


def test_the_pool_holds_nothing_that_the_release_names(release, tmp_path, write_wavs, write_text):
    """Test sets that were not chosen, Test3 where the partitions alone name it, and copies elsewhere, of any suffix."""
    write_wavs(release / "Audios", "MSP-PODCAST_0003_0001.wav", "MSP-PODCAST_9999_0001.wav")
    write_wavs(tmp_path / "copy", NAMES[0].replace(".wav", ".flac"), f"deep/{NAMES[1]}", "MSP-PODCAST_9999_0002.wav")
    write_text(release / "Partitions.txt", f"Test1; {NAMES[0]}\n\nTest3; MSP-PODCAST_0003_0001.wav\n")
    for pool, left in ((release / "Audios", "9999_0001"), (tmp_path / "copy", "9999_0002")):
        rows = msp_podcast.read(release, pool, options=MspPodcastOptions(("Test1",)))
        assert [u.path.stem for u in rows if u.split == "unlabeled"] == [f"MSP-PODCAST_{left}"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (HEADER.replace("EmoDom", "Dominance") + ROWS[0], "no column 'EmoDom'; it has FileName, EmoClass"),
        (HEADER + ROWS[0].replace("Test1", "Test4"), "line 2: unknown Split_Set 'Test4'; known are train"),
        (HEADER + ROWS[0].replace("2.2", "calm"), "line 2: EmoAct is 'calm'"),
        (HEADER + ROWS[0] + ROWS[0], r"line 3: MSP-PODCAST_0001_0008.wav is listed twice \(also line 2\)"),
        (HEADER + ROWS[0].replace("0001", "0009"), "none of the 1 listed recordings exists"),
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
