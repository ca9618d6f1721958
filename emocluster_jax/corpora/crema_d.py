"""CREMA-D: 91 actors, 7,442 recordings, rated for categories of emotion but not for attributes.

Cao, Cooper, Keutmann, Gur, Nenkova & Verma, "CREMA-D: Crowd-sourced Emotional Multimodal Actors Dataset", IEEE
Transactions on Affective Computing 2014; https://github.com/CheyneyComputerScience/CREMA-D. File names read
ACTOR_SENTENCE_EMOTION_LEVEL, such as 1001_DFA_ANG_XX.wav.
"""

from __future__ import annotations

from pathlib import Path

from emocluster_jax.corpora.audio_files import check_folder, find_audio_files
from emocluster_jax.corpora.utterance import Utterance, read_genders
from emocluster_jax.errors import InputError

_AUDIO_FOLDERS = ("AudioWAV", "AudioMP3")


def read(source: Path) -> list[Utterance]:
    """Reads CREMA-D: one row per recording, sorted by id, all unlabelled, since its tables rate no attributes.

    Args:
      source: the clone: `AudioWAV/` (or `AudioMP3/`) and, optionally, `VideoDemographics.csv` for the actors' genders.

    Raises:
      InputError: the folder, its audio or a column of its table is missing.
    """
    check_folder(source, "the folder of CREMA-D's AudioWAV")
    folder = next((name for name in _AUDIO_FOLDERS if (source / name).is_dir()), None)
    if folder is None:
        raise InputError(f"{source} has no folder {' or '.join(_AUDIO_FOLDERS)}; give the folder of CREMA-D's clone")
    files = find_audio_files(source / folder, remedy="unpack CREMA-D's audio there")
    genders = read_genders(source / "VideoDemographics.csv", "ActorID", "Sex")
    actors = [file.rpartition("/")[2].partition("_")[0] for file in files]
    return [
        Utterance(f"{folder}/{file}", source / folder / file, "unlabeled", actor, genders.get(actor))
        for file, actor in zip(files, actors, strict=True)
    ]
