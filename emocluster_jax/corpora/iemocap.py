"""IEMOCAP: acted and improvised dialogues of ten speakers, rated for valence, arousal and dominance from 1 to 5.

Busso, Bulut, Lee, Kazemzadeh, Mower, Kim, Chang, Lee & Narayanan, "IEMOCAP: Interactive emotional dyadic motion capture
database", Language Resources and Evaluation 2008. The corpus is licensed to each user. Each of its five sessions has
two speakers of its own, so that sessions make folds.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from emocluster_jax.config import LABEL
from emocluster_jax.corpora.audio_files import check_folder
from emocluster_jax.corpora.labels import VAD
from emocluster_jax.corpora.table import read_text
from emocluster_jax.corpora.utterance import Utterance, checked_rows, parse_gender
from emocluster_jax.errors import InputError

SPLITS = {1: "train", 2: "train", 3: "train", 4: "validation", 5: "test"}
"""Split by session."""
_SESSION = re.compile(r"Session(\d+)")
_TURN = re.compile(r"(?P<dialogue>Ses0(?P<session>\d)[FM]_\w+)_(?P<gender>[FM])\w*")
_NUMBER = r"\s*(\d+(?:\.\d+)?)\s*"
_RATED = re.compile(rf"\[.*\]\s+(?P<turn>\S+)\s+\S+\s+\[{_NUMBER},{_NUMBER},{_NUMBER}\]\s*")


def read(source: Path) -> list[Utterance]:
    """Reads IEMOCAP as it is distributed: one row per turn, sorted by id, also where the recording is missing.

    Sessions 1 to 3 train, 4 validates, 5 tests. A turn's speaker is its session and the gender in the turn's name. (The
    dialogue's name has the gender of the speaker who wore the markers: Ses01M speaks turn M003 of Ses01F_impro01.)

    Args:
      source: the folder of `Session1` to `Session5`, each with ratings in `dialog/EmoEvaluation/*.txt` and recordings
        in `sentences/wav`.

    Raises:
      InputError: a folder is missing, a line or session is not as expected, a turn is rated twice, or no recording
        exists.
    """
    check_folder(source, "the folder of IEMOCAP's Session1 to Session5")
    sessions = sorted(path for path in source.iterdir() if _SESSION.fullmatch(path.name) and path.is_dir())
    if not sessions:
        raise InputError(f"{source} has no folder Session1; give the folder of IEMOCAP's Session1 to Session5")
    places: dict[str, str] = {}
    utterances = []
    for session in sessions:
        for utterance, where in _turns(session):
            if utterance.id in places:
                raise InputError(f"{where}: {utterance.path.stem} is rated twice (also {places[utterance.id]})")
            places[utterance.id] = where
            utterances.append(utterance)
    return checked_rows(utterances, source, "unpack IEMOCAP's sentences there")


def _turns(session: Path) -> Iterator[tuple[Utterance, str]]:
    """The rated turns of a session, each with file and line."""
    folder = session / "dialog" / "EmoEvaluation"
    check_folder(folder, f"IEMOCAP whole: {session.name} has its ratings there")
    # macOS writes `._name.txt` beside `name.txt` on foreign disks.
    files = sorted(path for path in folder.glob("*.txt") if not path.name.startswith("."))
    if not files:
        raise InputError(f"{folder} has no ratings (*.txt); unpack IEMOCAP's there")
    for file in files:
        for number, line in enumerate(read_text(file).splitlines(), start=1):
            if line.startswith("["):
                where = f"{file}, line {number}"
                yield _utterance(line, session, where), where


def _utterance(line: str, session: Path, where: str) -> Utterance:
    """The turn that a line such as `[6.3 - 8.2] <tab> Ses01F_impro01_F000 <tab> neu <tab> [2.5, 2.5, 2.5]` rates."""
    rated = _RATED.fullmatch(line)
    turn = rated and _TURN.fullmatch(rated["turn"])
    if not rated or not turn:
        raise InputError(
            f"{where}: {line!r} is not of the form [START - END] TURN EMOTION [VALENCE, AROUSAL, DOMINANCE]; "
            "get the file again"
        )
    number = int(turn["session"])
    if number not in SPLITS or session.name != f"Session{number}":
        raise InputError(f"{where}: {turn[0]} is not a turn of {session.name}, one of IEMOCAP's five; fix that line")
    ratings = dict(zip(("valence", "arousal", "dominance"), map(float, rated.groups()[1:]), strict=True))
    name = f"sentences/wav/{turn['dialogue']}/{turn[0]}.wav"
    return Utterance(
        id=f"{session.name}/{name}",
        path=session / name,
        split=SPLITS[number],
        speaker=f"Ses0{number}{turn['gender']}",
        gender=parse_gender(turn["gender"]),
        labels={name: LABEL.check(f"{where}: {name}", ratings[name]) for name in VAD},
    )
