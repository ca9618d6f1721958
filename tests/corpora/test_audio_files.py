"""Finding recordings: suffixes, hidden files, links, pools beside labelled corpora."""

from __future__ import annotations

import pytest

from emocluster_jax.corpora.audio_files import find_audio_files
from emocluster_jax.corpora.unlabeled_pool import read_pool
from emocluster_jax.corpora.utterance import Utterance
from emocluster_jax.errors import InputError


def touch(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def test_only_recordings_sorted_also_deep(tmp_path):
    touch(tmp_path, "b.WAV", "a/z.flac", "a/b/c.mp3", "a/b/d.ogg", "notes.txt", "._b.WAV", ".trash/x.wav", "wav")
    assert find_audio_files(tmp_path) == ["a/b/c.mp3", "a/b/d.ogg", "a/z.flac", "b.WAV"]


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
    pool = read_pool(tmp_path / "linked", tmp_path, listed, skip=[tmp_path / "audio/c.wav"])
    assert [u.path.name for u in pool] == ["b.wav"]


@pytest.mark.parametrize(
    ("folder", "limit", "message"),
    [
        ("nowhere", None, "does not exist"),
        ("file.wav", None, "is no folder"),
        ("empty", None, "holds no recordings"),
        ("empty", -1, "-1 unlabelled recordings"),
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
