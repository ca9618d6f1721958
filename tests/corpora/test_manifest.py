"""Manifests: columns, splits, ids, pools, and every complaint."""

from __future__ import annotations

import csv
import logging
import math
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emocluster_jax.config import LABEL
from emocluster_jax.corpora import manifest, recording_names
from emocluster_jax.corpora.audio_files import AUDIO_SUFFIXES
from emocluster_jax.corpora.manifest import ManifestOptions
from emocluster_jax.corpora.registry import read_corpus
from emocluster_jax.corpora.utterance import parse_speaker
from emocluster_jax.errors import InputError


def test_all_columns(tmp_path, write_wavs, write_text):
    write_wavs(tmp_path, "a.wav", "sub/b.flac", "c.wav", "d.wav")
    path = write_text(
        tmp_path / "manifest.csv",
        "file,split,speaker,gender,valence,arousal\n"
        "d.wav,unlabelled,,,1,2\nsub/b.flac,Development,ann,F,2.5,\n./a.wav,training,bob,man,1,-3e-1\nc.wav,TEST,,?,1,1\n",
    )
    a, c, d, b = manifest.read(path)
    assert [u.id for u in (a, b, c, d)] == ["a.wav", "sub/b.flac", "c.wav", "d.wav"]
    assert [u.split for u in (a, b, c, d)] == ["train", "validation", "test", "unlabeled"]
    assert [u.speaker for u in (a, b, c, d)] == ["bob", "ann", None, None]
    assert [u.gender for u in (a, b, c, d)] == ["male", "female", None, None]
    assert a.labels == {"arousal": -0.3, "valence": 1.0}
    assert math.isnan(b.labels["arousal"])
    assert not d.has_labels  # a pool has no labels, whatever the table says
    assert [u.id for u in manifest.read(tmp_path)] == [u.id for u in (a, c, d, b)]  # by the folder


def test_a_table_elsewhere(tmp_path, write_wavs, write_text, monkeypatch):
    write_wavs(tmp_path / "audio", "a.wav", "sub/b.wav")
    rows = f"file,split,arousal\nsub/../a.wav,train,1\n{tmp_path}/audio/sub/b.wav,train,2\n"
    path = write_text(tmp_path / "labels/m.csv", rows)
    monkeypatch.chdir(tmp_path / "audio")
    for source in (tmp_path / "audio", Path("../audio"), Path()):
        utterances = manifest.read(source, options=ManifestOptions(path))
        assert [u.id for u in utterances] == ["a.wav", "sub/b.wav"]
        assert all(u.path.is_file() for u in utterances)
    with pytest.raises(InputError, match=r"nowhere` is not a folder; with `manifest` give that of the recordings"):
        manifest.read(tmp_path / "nowhere", options=ManifestOptions(path))


@pytest.mark.parametrize("name", ["../labels/a.wav", "sub/../../a.wav", "/etc/passwd", "..", ".", "..\\a.wav"])
@pytest.mark.parametrize("source", ["audio", ".", "..", "manifest.csv"])
def test_a_table_cannot_lead_out_of_its_folder(tmp_path, write_wavs, write_text, monkeypatch, name, source):
    folder = tmp_path / "x" / "y"
    write_wavs(folder, "a.wav")
    write_wavs(folder.parent, "a.wav")
    write_wavs(folder / "audio", "a.wav")
    for place in (folder / "audio", folder, folder.parent):
        write_text(place / "manifest.csv", f"file,split,arousal\na.wav,train,1\n{name},train,1\n")
    monkeypatch.chdir(folder)
    with pytest.raises(InputError, match=r"manifest\.csv, line 3: .* leads out of .*by `source`, .* by `manifest`"):
        manifest.read(Path(source))


def test_a_path_written_on_windows(tmp_path, write_wavs, write_text):
    write_wavs(tmp_path, "sub/a.wav")
    (utterance,) = manifest.read(write_text(tmp_path / "m.csv", "file,split,arousal\nsub\\a.wav,train,1\n"))
    assert utterance.id == "sub/a.wav"
    assert utterance.path.is_file()


def test_what_people_call_missing_or_unknown(tmp_path, write_wavs, write_text):
    write_wavs(tmp_path, "a.wav", "b.wav", "c.wav", "d.wav")
    rows = "a.wav;train;Unknown;-;#N/A\nb.wav;train;UNK;1,5;.\nc.wav;train;n.a.;<NA>;2\nd.wav;unlabeled\n"
    utterances = manifest.read(write_text(tmp_path / "m.csv", f"sep=;\nfile;split;speaker;arousal;valence;;\n{rows}"))
    assert [u.speaker for u in utterances] == [None] * 4
    assert [repr(u.labels.get("arousal", math.nan)) for u in utterances] == ["nan", "1.5", "nan", "nan"]
    assert [u.split for u in utterances] == ["train", "train", "train", "unlabeled"]


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_names_in_another_normal_form_than_the_files(tmp_path, write_wavs, write_text, form):
    there = unicodedata.normalize({"NFC": "NFD", "NFD": "NFC"}[form], "børn/Åse é.wav")
    write_wavs(tmp_path, there)
    listed = unicodedata.normalize(form, "børn/Åse é.wav")
    (utterance,) = manifest.read(write_text(tmp_path / "m.csv", f"file,split,arousal\n{listed},train,1\n"))
    assert (utterance.id, utterance.path.is_file()) == (there, True)


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("b.wav", "sub/deep/b.wav"),  # without its folder
        ("sub/deep/b", "sub/deep/b.wav"),  # without its suffix
        ("b", "sub/deep/b.wav"),  # without both
        ("SUB/Deep/B.WAV", "sub/deep/b.wav"),
        ("a", "a.wav"),  # not copy/a.wav, which it also might be
        ("a.flac", "a.flac"),
        ("v1.2", "sub/v1.2.wav"),
        ("deep/b.wav", "deep/b.wav"),  # a folder that it does not lie in: missing
        ("nobody.wav", "nobody.wav"),
    ],
)
def test_names_that_are_not_paths_are_found(tmp_path, write_wavs, write_text, name, file):
    write_wavs(
        tmp_path / "s", "a.wav", "copy/a.wav", "copy/a.flac", "sub/deep/b.wav", "sub/v1.2.wav", "x/c.wav", "y/c.wav"
    )
    if file == "a.flac":
        file = "copy/a.flac"
    table = write_text(tmp_path / "m.csv", f"file,split,arousal\nx/c.wav,train,1\n{name},train,1\n")
    (found,) = (u for u in manifest.read(tmp_path / "s", options=ManifestOptions(table)) if u.id != "x/c.wav")
    assert (found.id, found.path) == (file, tmp_path / "s" / file)


@pytest.mark.parametrize("name", ["c.wav", "c", "C.WAV"])
def test_a_name_that_several_files_have(tmp_path, write_wavs, write_text, name):
    write_wavs(tmp_path, *(f"{folder}/c.wav" for folder in "abcdefg"))
    path = write_text(tmp_path / "m.csv", f"file,split,arousal\na/c.wav,train,1\n{name},train,1\n")
    with pytest.raises(InputError, match=rf"m\.csv, line 3: '{name}' may be any of b/c.wav, .*, f/c.wav, \.\.\.; give"):
        manifest.read(path)


def test_a_file_that_a_row_names_exactly_is_no_other_row_s(tmp_path, write_wavs, write_text):
    """On most file systems A.wav is not a.wav: where one is missing, the other one is not taken for it."""
    write_wavs(tmp_path, "sub/a.wav")
    path = write_text(tmp_path / "m.csv", "file,split,arousal\nsub/A.wav,train,1\nsub/a.wav,train,2\na,train,3\n")
    assert {u.id: (u.path.is_file(), u.labels["arousal"]) for u in manifest.read(path)} == {
        "sub/A.wav": (False, 1),
        "sub/a.wav": (True, 2),
        "a": (False, 3),
    }
    write_text(path, "file,split,arousal\nA.wav,train,1\na,train,3\n")
    with pytest.raises(InputError, match=r"line 3: sub/a\.wav is listed twice \(also line 2\)"):
        manifest.read(path)


def test_names_with_a_folder_are_looked_for_there_alone(tmp_path, write_wavs, write_text, monkeypatch):
    """With `--source /` a missing recording must not have the whole disk searched."""
    write_wavs(tmp_path / "s", "Sub/a.wav")
    monkeypatch.setattr(recording_names, "find_audio_files", lambda *given: pytest.fail("the folder is searched"))
    rows = f"{tmp_path}/s/sub/A,train,1\n{tmp_path}/s/gone/b.wav,train,1\n{tmp_path}/s/Sub/a.wav/c,train,1\n"
    table = write_text(tmp_path / "m.csv", f"file,split,arousal\n{rows}")
    found = [u.id for u in manifest.read(tmp_path / "s", options=ManifestOptions(table))]
    assert found == ["Sub/a.wav", "Sub/a.wav/c", "gone/b.wav"]


def test_absolute_paths_through_links_to_the_folder(tmp_path, write_wavs, write_text):
    """Either of table and `source` may name the folder by a link; links out of it lead out as ever."""
    write_wavs(tmp_path / "real", "sub/a.wav", "b.wav")
    write_wavs(tmp_path / "elsewhere", "c.wav")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    (tmp_path / "home").symlink_to(tmp_path)
    for source, named in (("real", "link"), ("link", "real"), ("real", "home/link"), ("home/link", "real")):
        rows = f"{tmp_path}/{named}/sub/a.wav,train,1\n{tmp_path}/{named}/b.wav,train,1\n"
        table = write_text(tmp_path / "m.csv", f"file,split,arousal\n{rows}")
        utterances = manifest.read(tmp_path / source, options=ManifestOptions(table))
        assert [u.id for u in utterances] == ["b.wav", "sub/a.wav"]
        assert [u.path for u in utterances] == [tmp_path / source / u.id for u in utterances]
    for name in (
        f"{tmp_path}/link/../elsewhere/c.wav",
        f"{tmp_path}/link",
        f"{tmp_path}/home/elsewhere/c.wav",
        f"/{'x' * 5000}",
    ):
        write_text(tmp_path / "m.csv", f"file,split,arousal\n{name},train,1\n")
        with pytest.raises(InputError, match=r"line 2: .* leads out of"):
            manifest.read(tmp_path / "real", options=ManifestOptions(tmp_path / "m.csv"))


def test_unused_columns_and_unknown_speakers_are_said(tmp_path, write_wavs, write_text, caplog):
    write_wavs(tmp_path, *(f"r{n}.wav" for n in range(12)))
    rows = "\n".join(f"r{n}.wav,{'Unknown' if n > 8 else n},{n},{n / 2}" for n in range(12))
    with caplog.at_level(logging.WARNING):
        manifest.read(write_text(tmp_path / "m.csv", f"file,speaker,valence,arousal_mean\n{rows}\n"))
    assert "not used: arousal_mean" in caplog.text and "rename arousal_mean to arousal" in caplog.text
    assert "the speakers of 3 recordings are unknown; the split treats each file as a speaker" in caplog.text


def test_a_split_by_speaker_where_there_is_none(tmp_path, write_wavs, write_text):
    write_wavs(tmp_path, "s0_0.wav")
    rows = [f"s{speaker}_{number}.wav,s{speaker},{number}" for speaker in range(20) for number in range(5)]
    rows += ["x.wav,s3,"]  # no label: part of the pool
    path = write_text(tmp_path / "m.csv", "file,speaker,arousal\n" + "\n".join(rows))
    utterances = manifest.read(path)
    labeled = [u for u in utterances if u.split != "unlabeled"]
    counts = {split: sum(u.split == split for u in labeled) for split in ("train", "validation", "test")}
    assert counts == {"train": 70, "validation": 15, "test": 15}
    assert len({(u.speaker, u.split) for u in labeled}) == 20
    assert [u.id for u in utterances if u.split == "unlabeled"] == ["x.wav"]
    assert {u.id: u.split for u in utterances} == {u.id: u.split for u in manifest.read(path)}


def test_without_speakers_every_file_is_one_and_that_is_said(tmp_path, write_wavs, write_text, caplog):
    write_wavs(tmp_path, "r0.wav")
    path = write_text(tmp_path / "m.csv", "file,valence\n" + "\n".join(f"r{n}.wav,{n}" for n in range(40)))
    with caplog.at_level(logging.WARNING):
        utterances = manifest.read(path)
    assert "every file as a speaker of its own" in caplog.text
    assert sum(u.split == "train" for u in utterances) == 28
    assert all(u.speaker is None for u in utterances)


def test_pool_beside_the_manifest(tmp_path, write_wavs, write_text):
    write_wavs(tmp_path, "a.wav", "b.wav", "c.wav")
    path = write_text(tmp_path / "m.csv", "file,split,arousal\na.wav,train,1\n")
    assert [(u.id, u.split) for u in read_corpus("manifest", path, ManifestOptions(), AUDIO_SUFFIXES, tmp_path)] == [
        ("a.wav", "train"),
        ("b.wav", "unlabeled"),
        ("c.wav", "unlabeled"),
    ]
    assert len(read_corpus("manifest", path, ManifestOptions(), AUDIO_SUFFIXES, tmp_path, 1)) == 2


def test_recordings_that_are_missing_keep_their_rows(tmp_path, write_wavs, write_text):
    write_wavs(tmp_path, "a.wav")
    path = write_text(tmp_path / "m.csv", "file,split,arousal\na.wav,train,1\ngone.wav,train,1\n")
    assert [u.path.is_file() for u in manifest.read(path)] == [True, False]


def test_segments_of_files(tmp_path, write_wavs, write_text):
    write_wavs(tmp_path, "a.wav", "b.wav", "c.wav", "d.wav")
    text = (
        "file,start,end,split,arousal\n"
        "a.wav,1.5,4,train,1\na.wav,0 days 00:00:04,0 days 00:01:00.250000,train,2\na.wav,3,,test,3\n"
        "b.wav,0,NaT,train,4\nc.wav,,00:00:02.50,train,5\nd.wav,0 days,,train,6\n"
    )
    path = write_text(tmp_path / "m.csv", text)
    found = {u.id: u for u in manifest.read(path)}
    assert {id: (u.start_s, u.end_s, u.labels["arousal"]) for id, u in found.items()} == {
        "a.wav#1.5-4": (1.5, 4, 1),
        "a.wav#4-60.25": (4, 60.25, 2),
        "a.wav#3-": (3, None, 3),
        "b.wav": (None, None, 4),
        "c.wav#0-2.5": (0, 2.5, 5),
        "d.wav": (None, None, 6),
    }
    assert {u.path for u in found.values()} == {tmp_path / f"{name}.wav" for name in "abcd"}
    path.write_text(text.replace(",", ";").replace("1.5", "1,5"))
    assert {u.id for u in manifest.read(path)} == found.keys()


def test_a_file_that_is_named_by_its_segments_is_not_in_the_pool(tmp_path, write_wavs, write_text):
    write_wavs(tmp_path, "a.wav", "b.wav")
    path = write_text(tmp_path / "m.csv", "file,start,end,split,arousal\na.wav,0,.02,train,1\na.wav,.02,.04,test,1\n")
    assert [u.id for u in read_corpus("manifest", path, ManifestOptions(), AUDIO_SUFFIXES, tmp_path)] == [
        "a.wav#0-0.02",
        "a.wav#0.02-0.04",
        "b.wav",
    ]


def test_a_split_leaves_the_segments_of_a_file_together(tmp_path, write_wavs, write_text):
    names = [f"r{number}.wav" for number in range(20)]
    write_wavs(tmp_path, *names)
    whole = write_text(tmp_path / "whole.csv", "file,arousal\n" + "".join(f"{name},1\n" for name in names))
    rows = [f"{name},{start},{start + 1},1\n" for name in names for start in range(3)]
    cut = write_text(tmp_path / "cut.csv", "file,start,end,arousal\n" + "".join(rows))
    splits = {u.path: u.split for u in manifest.read(whole)}
    segments = manifest.read(cut)
    assert len(segments) == 60
    assert all(u.split == splits[u.path] for u in segments)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "file,start,end,split,arousal\na.wav,1,2,train,1\na.wav,1.0,2.0000001,test,1\n",
            r"line 3: a\.wav#1-2 is listed twice \(also line 2\)",
        ),
        ("file,start,end,split,arousal\na.wav,2,1,train,1\n", r"line 2: end is '1', which is not after start, '2'"),
        ("file,end,split,arousal\na.wav,0,train,1\n", r"line 2: end is '0', which is not after start, '0'"),
        ("file,start,split,arousal\na.wav,-1,train,1\n", r"line 2: start is '-1'; expected seconds"),
        ("file,start,split,arousal\na.wav,-1 days +23:59:59,train,1\n", r"line 2: start is '-1 days \+23:59:59'"),
        ("file,end,split,arousal\na.wav,12:30,train,1\n", r"line 2: end is '12:30'; expected seconds"),
        ("file,end,split,arousal\na.wav,inf,train,1\n", r"line 2: end is 'inf'; expected seconds"),
        ("file,end,split,arousal\na.wav,1e300,train,1\n", r"line 2: end is '1e300'; expected seconds"),
        ("name,arousal\na.wav,1\n", "no column 'file'; it has name, arousal"),
        ("file,split\na.wav,train\n", "none of the columns arousal, dominance, valence; it has file, split"),
        (
            "file,mood\na.wav,1\n",
            r"neither labels \(arousal, dominance, valence\) nor a column split; it has file, mood",
        ),
        ("file,split,arousal\na.wav,holdout,1\n", "line 2: unknown split 'holdout'; known are train"),
        ("file,split,arousal\na.wav,,1\n", "line 2: unknown split ''"),
        ("file,split,arousal\na.wav,train,loud\n", "line 2: arousal is 'loud'"),
        (
            "file,split,arousal,valence\na.wav,train,1000000,-4e39\n",
            r"line 2: valence is -4e\+39; expected a number from -1000000 to 1000000, or nothing where it is missing",
        ),
        ("file,arousal\na.wav,1000000.1\n", r"line 2: arousal is 1000000\.1; expected a number from"),
        ("file,split,arousal\na.wav,train,1\n./a.wav,test,1\n", r"line 3: a\.wav is listed twice \(also line 2\)"),
        ("file,split,arousal\n,train,1\n", "line 2: file is empty"),
        ("file,split,arousal\na.wav,train\n", "line 2: ends before the labels of a train recording"),
        ("file,split,arousal\ngone.wav,train,1\n", r"none of the 1 listed recordings exists \(first: .*gone\.wav"),
        ("file,arousal\na.wav,1\nb.wav,2\n", "2 speakers are too few"),
    ],
)
def test_complaints(tmp_path, write_wavs, write_text, text, message):
    write_wavs(tmp_path, "a.wav")
    path = write_text(tmp_path / "m.csv", text)
    with pytest.raises(InputError, match=message) as caught:
        manifest.read(path)
    assert str(path) in str(caught.value)


def test_names_that_no_file_system_takes(tmp_path, write_wavs, write_text):
    write_wavs(tmp_path, "a.wav")
    path = write_text(tmp_path / "m.csv", f"file,split,arousal\na.wav,train,1\n{'x' * 5000}\\.wav,train,1\n")
    assert [len(u.id) for u in manifest.read(path)] == [5, 5005]
    path.write_bytes(path.read_bytes().replace(b"x" * 5000, b"x\0"))
    with pytest.raises(InputError, match="holds null characters"):
        manifest.read(path)


# Names as they are: blanks around fields are cut off, and slashes have a meaning.
NAME = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"], exclude_characters="/\\"), min_size=1)
ATTRIBUTE = st.one_of(st.just(math.nan), st.floats(LABEL.lowest, LABEL.highest))
ROW = st.tuples(
    NAME.map(lambda name: f"{name[:40]}.wav"),
    st.sampled_from(["train", "validation", "test"]),
    st.one_of(st.just(""), NAME.filter(parse_speaker)),  # "-" and "unknown" are nobody's
    st.tuples(ATTRIBUTE, ATTRIBUTE, ATTRIBUTE),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("manifest")
    (folder / "a.wav").touch()
    return folder


@given(rows=st.lists(ROW, max_size=5, unique_by=lambda row: row[0]), delimiter=st.sampled_from(",;\t"))
def test_what_a_manifest_says_comes_back(folder, rows, delimiter):
    rows = [("a.wav", "train", "", (1.0, 2.0, 3.0)), *(row for row in rows if row[0] != "a.wav")]
    with (folder / "manifest.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter=delimiter)
        writer.writerow(["file", "split", "speaker", "arousal", "dominance", "valence"])
        for name, split, speaker, attributes in rows:
            texts = ["" if math.isnan(value) else repr(value) for value in attributes]
            writer.writerow([name, split, speaker, *texts])
    utterances = manifest.read(folder)
    assert [u.id for u in utterances] == sorted(row[0] for row in rows)
    for utterance, row in zip(utterances, sorted(rows), strict=True):
        assert utterance.path == folder / row[0]
        assert (utterance.split, utterance.speaker) == (row[1], row[2] or None)
        assert list(map(repr, utterance.labels.values())) == ([] if row[1] == "unlabeled" else list(map(repr, row[3])))


PARTS = ["file", "split", "speaker", "arousal", "train", "test", "a.wav", "file,split,arousal\na.wav,train,1\n"]
PARTS += [",", ";", "\t", "\n", "\r\n", "\r", '"', "-1.5", "nan", "1e999", "../", "\\", " ", "é"]
PARTS += ["start", "end", "0 days 00:00:01", "file,start,end,split,arousal\na.wav,0,1,train,1\n"]
PARTS += ["\ufeff", "\0", "\u2028", "\x1b"]


@given(st.one_of(st.binary(), st.text(), st.lists(st.sampled_from(PARTS), max_size=40).map("".join)))
def test_any_text_is_a_manifest_or_a_complaint_of_one_line(folder, content):
    content = content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass")
    (folder / "manifest.csv").write_bytes(content)
    try:
        assert manifest.read(folder)
    except InputError as error:
        assert str(error).isprintable()


def test_no_such_file(tmp_path):
    with pytest.raises(InputError, match=r"manifest\.csv does not exist"):
        manifest.read(tmp_path)
    with pytest.raises(InputError, match=r"gone\.csv does not exist"):
        manifest.read(tmp_path / "gone.csv")


def test_columns_of_further_inputs(tmp_path, write_wavs, write_text, caplog):
    write_wavs(tmp_path / "audio", "a.wav", "b.wav")
    rows = "file,split,arousal,Input:Text,input:face_2\na.wav,train,1,../x/a.npy,n/a\nb.wav,unlabeled,,,\n"
    table = write_text(tmp_path / "labels" / "m.csv", rows)
    a, b = manifest.read(tmp_path / "audio", options=ManifestOptions(table))
    assert a.inputs == {"text": tmp_path / "labels" / "../x/a.npy"} and b.inputs == {}
    assert not caplog.records


@pytest.mark.parametrize("name", ["", "audio", "text_present", "2d", "a-b", "é", "x" * 65])
def test_a_further_input_needs_a_name(tmp_path, write_wavs, write_text, name):
    write_wavs(tmp_path, "a.wav")
    write_text(tmp_path / "manifest.csv", f"file,split,arousal,input:{name}\na.wav,train,1,a.npy\n")
    with pytest.raises(InputError, match=f"'{name}' cannot be the name of an input; use small letters"):
        manifest.read(tmp_path)


def test_a_further_input_is_named_once(tmp_path, write_wavs, write_text):
    write_wavs(tmp_path, "a.wav")
    write_text(tmp_path / "manifest.csv", "file,split,arousal,input:text,input: text\na.wav,train,1,a.npy,b.npy\n")
    with pytest.raises(InputError, match=r"manifest.csv names the input text twice; name each once"):
        manifest.read(tmp_path)
