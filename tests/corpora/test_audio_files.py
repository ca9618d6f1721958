"""Finding recordings: suffixes, hidden files, links, pools beside labelled corpora."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import soundfile

from emocluster_jax.corpora.audio_files import AUDIO_SUFFIXES, AV_SUFFIXES, FRAME_SUFFIXES, find_audio_files
from emocluster_jax.corpora.unlabeled_pool import read_pool
from emocluster_jax.corpora.utterance import Utterance
from emocluster_jax.errors import InputError
from emocluster_jax.preprocessing.audio import read_audio

FORMATS = {".wav": "WAV", ".wave": "WAV", ".bwf": "WAVEX", ".rf64": "RF64", ".w64": "W64", ".voc": "VOC"}
FORMATS |= {".aif": "AIFF", ".aiff": "AIFF", ".aifc": "AIFF", ".au": "AU", ".snd": "AU", ".caf": "CAF"}
FORMATS |= {".sph": "NIST", ".nist": "NIST", ".flac": "FLAC", ".mp3": "MP3", ".ogg": "OGG", ".oga": "OGG"}
FORMATS |= {".opus": "OGG"}
WITHOUT_AV = AUDIO_SUFFIXES - AV_SUFFIXES
READ_ONLY = {".mp2"}
"""libsndfile reads MPEG layer II, but does not write it."""


def touch(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def test_only_recordings_sorted_also_deep(tmp_path):
    touch(tmp_path, "b.WAV", "a/z.flac", "a/b/c.mp3", "a/b/d.ogg", "notes.txt", "._b.WAV", ".trash/x.wav", "wav")
    assert find_audio_files(tmp_path) == ["a/b/c.mp3", "a/b/d.ogg", "a/z.flac", "b.WAV"]


def test_what_is_decoded_when_it_is_named_is_found_in_folders(tmp_path):
    assert FORMATS.keys() | READ_ONLY == WITHOUT_AV
    tone = 0.5 * np.sin(2 * np.pi * 440 * np.arange(16_000) / 16_000)
    for suffix, container in FORMATS.items():
        path = tmp_path / f"x{suffix}"
        soundfile.write(path, tone, 16_000, format=container, subtype="OPUS" if suffix == ".opus" else None)
        assert len(read_audio(path, 16_000)) == pytest.approx(16_000, abs=2)
    assert find_audio_files(tmp_path) == sorted(f"x{suffix}" for suffix in FORMATS)


def test_what_is_left_out_is_counted_by_suffix(tmp_path, caplog):
    touch(tmp_path, "a.wav", "b.m4a", "deep/c.M4A", "deep/d.webm", "tape", "odd.x\ny", ".hidden.m4a")
    touch(tmp_path, "manifest.csv", "README", "README.md", "deep/a.TextGrid", "deep/picture.png")
    with caplog.at_level(logging.WARNING):
        assert find_audio_files(tmp_path, WITHOUT_AV, "go") == ["a.wav"]
        assert find_audio_files(tmp_path, WITHOUT_AV) == ["a.wav"]  # single files are looked for
        find_audio_files(tmp_path, WITHOUT_AV | AV_SUFFIXES, "go")
    with_advice, without = caplog.messages
    assert with_advice == (
        f"left out of {tmp_path}, by their suffix: 2 .m4a, 1 without suffix, 1 .webm, 1 .x\\ny; "
        "the extra av decodes more formats"
    )
    assert without == f"left out of {tmp_path}, by their suffix: 1 without suffix, 1 .x\\ny"

    caplog.clear()
    with pytest.raises(InputError, match=r"holds 2 \.m4a, .*1 \.wav.*, but no recordings \(.*\.npy\); go"):
        find_audio_files(tmp_path, FRAME_SUFFIXES, "go")
    assert not caplog.messages
    assert find_audio_files(tmp_path / "deep", WITHOUT_AV) == []


def test_a_folder_of_recordings_and_notes_makes_no_noise(tmp_path, caplog):
    touch(tmp_path, "a.wav", "manifest.csv", "LICENSE", "README.txt", "a.txt")
    assert find_audio_files(tmp_path, remedy="go") == ["a.wav"]
    assert not caplog.messages


def test_of_many_suffixes_the_most_frequent_are_named(tmp_path, caplog):
    touch(tmp_path, "a.wav", *(f"{i}.s{i}" for i in range(10)), *(f"{i}.m4a" for i in range(3)))
    find_audio_files(tmp_path, WITHOUT_AV, "go")
    assert ": 3 .m4a, 1 .s0, 1 .s1, 1 .s2, 1 .s3, 6 others;" in caplog.messages[0]


def test_linked_folders_count_once_and_loops_end(tmp_path):
    touch(tmp_path / "disk", "x.wav")
    touch(tmp_path / "corpus", "y.wav")
    (tmp_path / "corpus/linked").symlink_to(tmp_path / "disk")
    (tmp_path / "disk/loop").symlink_to(tmp_path / "corpus")
    assert find_audio_files(tmp_path / "corpus") == ["linked/x.wav", "y.wav"]


def test_pool_inside_and_outside_the_corpus(tmp_path):
    touch(tmp_path, "corpus/pool/a.wav", "elsewhere/deep/b.wav")
    inside = read_pool(tmp_path / "corpus/pool", tmp_path / "corpus")
    outside = read_pool(tmp_path / "elsewhere", tmp_path / "corpus")
    whole = read_pool(tmp_path / "corpus", tmp_path / "corpus")
    assert [u.id for u in (*inside, *outside, *whole)] == ["pool/a.wav", "elsewhere/deep/b.wav", "pool/a.wav"]
    assert all(u.path.is_file() and u.split == "unlabeled" for u in (*inside, *outside, *whole))


def test_smaller_pools_are_part_of_larger_ones(tmp_path):
    touch(tmp_path, *(f"p{number:03d}.wav" for number in range(200)))
    chosen = {limit: [u.id for u in read_pool(tmp_path, tmp_path, limit=limit)] for limit in (0, 20, 60, 500)}
    assert [len(ids) for ids in chosen.values()] == [0, 20, 60, 200]
    assert set(chosen[20]) < set(chosen[60])
    assert chosen[60] == sorted(chosen[60])
    assert chosen[20] != chosen[500][:20]  # drawn, not the first ones


def test_what_the_corpus_lists_is_left_out_of_the_pool(tmp_path):
    touch(tmp_path, "audio/a.wav", "audio/b.wav", "audio/c.wav")
    (tmp_path / "linked").symlink_to(tmp_path / "audio")
    listed = [Utterance("audio/a.wav", tmp_path / "audio/a.wav", "train")]
    pool = read_pool(tmp_path / "linked", tmp_path, listed, skip={"c"})
    assert [u.path.name for u in pool] == ["b.wav"]


@pytest.mark.parametrize(
    ("folder", "limit", "message"),
    [
        ("nowhere", None, "does not exist"),
        ("file.wav", None, "is not a folder"),
        ("empty", None, "holds no recordings"),
        ("empty", -1, "`unlabeled_limit` is -1; expected 0 to 1000000000"),
    ],
)
def test_pools_that_cannot_be(tmp_path, folder, limit, message):
    touch(tmp_path, "file.wav", "empty/readme.txt")
    with pytest.raises(InputError, match=message):
        read_pool(tmp_path / folder, tmp_path, limit=limit)


def test_a_pool_whose_ids_clash(tmp_path):
    touch(tmp_path, "corpus/pool/a.wav", "elsewhere/pool/a.wav")
    listed = [Utterance("pool/a.wav", tmp_path / "corpus/pool/a.wav", "train")]
    with pytest.raises(InputError, match=r"same id 'pool/a\.wav'; rename the pool's folder"):
        read_pool(tmp_path / "elsewhere/pool", tmp_path / "corpus", listed)
