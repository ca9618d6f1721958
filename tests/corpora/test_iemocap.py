"""IEMOCAP: a folder of the layout in which it is distributed, and what is wrong with others."""

from __future__ import annotations

from pathlib import Path

import pytest

from emocluster_jax.corpora import iemocap
from emocluster_jax.errors import InputError
from small_records import vad

HEADER = "% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]\n\n"


def rated(turn: str, ratings: str = "2.5000, 3.0000, 1.5000") -> str:
    """A turn's lines: the ratings, and what each evaluator said."""
    return (
        f"[6.2901 - 8.2357]\t{turn}\tneu\t[{ratings}]\n"
        "C-E2:\tNeutral;\t()\nC-F1:\tNeutral; Anger;\t(curious)\nA-E3:\tval 3; act 2; dom  2;\t()\n\n"
    )


def evaluation(source: Path, dialogue: str) -> Path:
    return source / f"Session{dialogue[4]}" / "dialog" / "EmoEvaluation" / f"{dialogue}.txt"


@pytest.fixture
def corpus(tmp_path, write_wavs, write_text):
    """A dialogue for each session, of two turns, and a second one for session 1."""
    for dialogue in ("Ses01F_impro01", "Ses01M_script01_1b", "Ses02F_impro03", "Ses03M_impro02", "Ses04F_impro01"):
        turns = [f"{dialogue}_F000", f"{dialogue}_M003"]
        write_text(evaluation(tmp_path, dialogue), HEADER + "".join(map(rated, turns)))
        write_wavs(tmp_path / f"Session{dialogue[4]}/sentences/wav/{dialogue}", *(f"{turn}.wav" for turn in turns))
    write_text(evaluation(tmp_path, "Ses05F_impro01"), HEADER + rated("Ses05F_impro01_MXX0", "4.0, 5, 5.5000"))
    # Beside the turns' files there are others, which hold other things.
    write_text(tmp_path / "Session1/dialog/EmoEvaluation/Categorical/e1_Ses01F_impro01_cat.txt", "[odd")
    write_text(tmp_path / "Session1/dialog/EmoEvaluation/._Ses01F_impro01.txt", "[odd")
    write_text(tmp_path / "Documentation/Session.txt", "[odd")
    return tmp_path


def test_sessions_are_splits_and_turns_have_their_own_speakers(corpus):
    utterances = {u.id.rpartition("/")[2]: u for u in iemocap.read(corpus)}
    assert len(utterances) == 11
    splits = {int(name[4]): u.split for name, u in utterances.items()}
    assert splits == {1: "train", 2: "train", 3: "train", 4: "validation", 5: "test"}
    spoken = utterances["Ses01F_impro01_M003.wav"]
    assert spoken.id == "Session1/sentences/wav/Ses01F_impro01/Ses01F_impro01_M003.wav"
    assert spoken.path == corpus / spoken.id and spoken.path.is_file()
    assert (spoken.speaker, spoken.gender) == ("Ses01M", "male")
    assert spoken.labels == {"arousal": 3.0, "dominance": 1.5, "valence": 2.5}
    other = utterances["Ses01M_script01_1b_F000.wav"]
    assert (other.speaker, other.gender) == ("Ses01F", "female")
    assert utterances["Ses05F_impro01_MXX0.wav"].labels == vad(5.0, 5.5, 4.0)
    assert len({u.speaker for u in utterances.values()}) == 9


def test_a_missing_recording_keeps_its_row(corpus):
    assert [u.path.is_file() for u in iemocap.read(corpus) if u.split == "test"] == [False]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[6.29 - 8.23]\tSes05F_impro01_F000\tneu\n", "line 1: .* is not of the form"),
        (HEADER + rated("Ses05F_impro01_F000", "2.5, high, 1"), r"Ses05F_impro01\.txt, line 3: .* is not of the form"),
        (
            rated("Ses05F_impro01_F000", f"2.5, 4{'0' * 39}, 1"),
            r"\.txt, line 1: arousal is 4e\+39; expected a number from",
        ),
        (rated("../../../x_F000"), "line 1: .* is not of the form"),
        (rated("Ses04F_impro01_F000"), "line 1: Ses04F_impro01_F000 is not a turn of Session5"),
        (2 * rated("Ses05F_impro01_F000"), r"line 6: Ses05F_impro01_F000 is rated twice \(also .*line 1\)"),
    ],
)
def test_complaints(corpus, write_text, text, message):
    write_text(evaluation(corpus, "Ses05F_impro01"), text)
    with pytest.raises(InputError, match=message):
        iemocap.read(corpus)


def test_missing_folders(tmp_path, corpus):
    with pytest.raises(InputError, match="nowhere does not exist; give the folder of IEMOCAP"):
        iemocap.read(tmp_path / "nowhere")
    with pytest.raises(InputError, match="has no folder Session1"):
        iemocap.read(corpus / "Session1")
    for wav in corpus.glob("*/sentences/wav/*/*.wav"):
        wav.unlink()
    with pytest.raises(InputError, match="none of the 11 listed recordings exists"):
        iemocap.read(corpus)
    evaluation(corpus, "Ses05F_impro01").unlink()
    with pytest.raises(InputError, match=r"EmoEvaluation has no ratings \(\*\.txt\)"):
        iemocap.read(corpus)
    evaluation(corpus, "Ses05F_impro01").parent.rmdir()
    with pytest.raises(InputError, match="EmoEvaluation does not exist; give IEMOCAP whole"):
        iemocap.read(corpus)
