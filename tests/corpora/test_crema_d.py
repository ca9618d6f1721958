"""CREMA-D: all of it is a pool, with speakers and genders."""

from __future__ import annotations

import pytest

from emocluster_jax.corpora import crema_d
from emocluster_jax.errors import InputError


def test_everything_is_unlabelled(tmp_path, write_wavs, write_text):
    write_wavs(tmp_path / "AudioWAV", "1002_IEO_SAD_HI.wav", "1001_DFA_ANG_XX.wav", "1003_DFA_ANG_XX.wav")
    write_text(tmp_path / "VideoDemographics.csv", "ActorID,Age,Sex\n1001,51,Male\n1002,21,Female\n")
    utterances = crema_d.read(tmp_path)
    assert [(u.id, u.speaker, u.gender) for u in utterances] == [
        ("AudioWAV/1001_DFA_ANG_XX.wav", "1001", "male"),
        ("AudioWAV/1002_IEO_SAD_HI.wav", "1002", "female"),
        ("AudioWAV/1003_DFA_ANG_XX.wav", "1003", None),
    ]
    assert all(u.split == "unlabeled" and not u.has_labels for u in utterances)


def test_mp3_where_there_is_no_wav_and_no_demographics(tmp_path, write_wavs):
    write_wavs(tmp_path / "AudioMP3", "1001_DFA_ANG_XX.mp3")
    (utterance,) = crema_d.read(tmp_path)
    assert (utterance.speaker, utterance.gender) == ("1001", None)


def test_complaints(tmp_path, write_wavs, write_text):
    with pytest.raises(InputError, match="does not exist; give the folder of CREMA-D"):
        crema_d.read(tmp_path / "nowhere")
    with pytest.raises(InputError, match="has no folder AudioWAV or AudioMP3"):
        crema_d.read(tmp_path)
    (tmp_path / "AudioWAV").mkdir()
    with pytest.raises(InputError, match="AudioWAV holds no recordings"):
        crema_d.read(tmp_path)
    write_wavs(tmp_path / "AudioWAV", "1001_DFA_ANG_XX.wav")
    write_text(tmp_path / "VideoDemographics.csv", "Actor,Sex\n1001,Male\n")
    with pytest.raises(InputError, match="no column 'ActorID'; it has Actor, Sex"):
        crema_d.read(tmp_path)
