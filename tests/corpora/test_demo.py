"""The demo corpus: the same bytes twice, splits without shared voices, prosody that follows the emotion."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from signal import SIGKILL

import filelock
import numpy as np
import pytest
import soundfile

from emocluster_jax import Console, prepare
from emocluster_jax.corpora import demo
from emocluster_jax.corpora.demo import draw_annotators, rate
from emocluster_jax.corpora.demo_sentences import VECTOR_LENGTH, neutral_sentence, telling_sentence, vectors
from emocluster_jax.corpora.demo_voices import (
    MAXIMUM,
    Emotion,
    Speech,
    draw_speakers,
    say,
    speech_of,
    voice_quality,
)
from emocluster_jax.corpora.inputs import FurtherInput
from emocluster_jax.corpora.labels import VAD
from emocluster_jax.corpora.table import read_table
from emocluster_jax.errors import InputError
from emocluster_jax.records.preparation import read_preparation

SMALL = demo.DemoCorpus(
    train_speakers=3, validation_speakers=1, test_speakers=1, unlabeled_speakers=1, recordings_per_speaker=4
)


WITH_TEXT = replace(SMALL, text=True)
TABLES = {
    "annotations.csv": "da83e920a83c13e8",
    "demo.json": "5841ac4acf6656b0",
    "hidden.csv": "b68cca66dd913e92",
    "manifest.csv": "35127626fe3c7b64",
    "README.md": "f10525b59500b82d",
}
"""SHA-256 of the files that hold no audio, of SMALL."""


def made(config, tmp_path_factory):
    pytest.importorskip("espeakng_loader", reason="the extra 'demo' is not installed")
    folder = tmp_path_factory.mktemp("demo") / "corpus"
    demo.generate(folder, config)
    return folder


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return made(SMALL, tmp_path_factory)


@pytest.fixture(scope="module")
def with_text(tmp_path_factory):
    return made(WITH_TEXT, tmp_path_factory)


def bytes_of(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_same_settings_give_the_same_bytes(small, tmp_path):
    finished = []
    time.sleep(1.1)  # past the next second: eSpeak NG seeds itself with the clock
    demo.generate(tmp_path / "again", SMALL, finished.append)
    assert bytes_of(tmp_path / "again") == bytes_of(small)
    assert sum(finished) == SMALL.recordings == 24
    assert [path.name for path in tmp_path.iterdir()] == ["again"]  # nothing temporary is left


def test_without_text_it_is_what_earlier_versions_made(small):
    """Those that knew no text: their sentences, tables and settings. Of audio the encoder's version decides."""
    tables = {name: hashlib.sha256((small / name).read_bytes()).hexdigest()[:16] for name in TABLES}
    assert tables == TABLES


def test_with_text_all_but_the_sentences_is_the_same(small, with_text):
    names = bytes_of(with_text).keys() - bytes_of(small).keys()
    assert names == {u.id.replace("audio", "text").replace(".flac", ".npy") for u in demo.read(small)}
    assert (small / "annotations.csv").read_bytes() == (with_text / "annotations.csv").read_bytes()
    plain, telling = (list(read_table(folder / "hidden.csv")) for folder in (small, with_text))
    for attribute in VAD:
        assert [row.number(attribute) for row in plain] == [row.number(attribute) for row in telling]
    with pytest.raises(InputError, match="holds a demo corpus of other settings"):
        demo.generate(with_text, SMALL)
    with pytest.raises(InputError, match="holds a demo corpus with text; add `demo_text`, or name another folder"):
        demo.read(with_text)
    with pytest.raises(InputError, match="holds a demo corpus without text; leave out `demo_text`"):
        demo.read(small, demo.DemoOptions(demo_text=True))


def test_vectors_are_hashed_bags_of_the_sentences_words(with_text):
    sentences = {row.text("file"): row.text("text") for row in read_table(with_text / "hidden.csv")}
    utterances = demo.read(with_text, demo.DemoOptions(demo_text=True))
    found = np.stack([np.load(utterance.inputs["text"]) for utterance in utterances])
    assert found.shape == (SMALL.recordings, VECTOR_LENGTH) and found.dtype == np.float32
    np.testing.assert_array_equal(found, vectors([sentences[utterance.id] for utterance in utterances]))


def test_vectors_are_the_same_in_every_process():
    (vector,) = vectors(["A wonderful table, sadly for us: a table."])
    # Words of one letter are left out; "table" is there twice; signs are the hash's.
    places = np.flatnonzero(vector)
    assert dict(zip(places, vector[places], strict=True)) == {11: -1, 33: 2, 38: -1, 50: 1, 56: -1}


def test_text_tells_a_part_of_the_valence():
    rng = np.random.default_rng(0)
    valence = np.clip(0.45 * rng.standard_normal(4_000), -1, 1)
    sentences = [telling_sentence(value, rng) for value in valence]
    bags, half = vectors(sentences), 2_000
    weights = np.linalg.lstsq(bags[:half], valence[:half])[0]
    assert 0.5 < np.corrcoef(bags[half:] @ weights, valence[half:])[0, 1] < 0.75
    said = Counter(sentences)
    assert len(said) == 4 * 5 * 5 and min(said.values()) >= 5  # none of them tells a recording from all others
    telling = ("lovely", "wonderful", "horrible", "dreadful", ",")
    neutral = [words for words in said if not any(word in words for word in telling)]
    assert 0.05 < sum(said[words] for words in neutral) / len(sentences) < 0.3


def test_preparation_makes_and_takes_the_text(with_text, tmp_path, monkeypatch):
    made = []
    monkeypatch.setattr(demo, "generate", lambda folder, config, progress: made.append(config))
    own, console = {"demo_text": True}, Console(quiet=True)
    prepare("demo", with_text, tmp_path / "data", workers=1, corpus_options=own, console=console)
    assert made == [demo.DemoCorpus(text=True)]
    assert read_preparation(tmp_path / "data").inputs == (FurtherInput("text", VECTOR_LENGTH),)


def test_it_is_read_as_any_corpus(small):
    utterances = demo.read(small)
    assert Counter(u.split for u in utterances) == {"train": 12, "validation": 4, "test": 4, "unlabeled": 4}
    assert len({u.speaker for u in utterances}) == len({(u.speaker, u.split) for u in utterances}) == 6
    for utterance in utterances:
        signal, sample_rate_hz = soundfile.read(utterance.path)
        assert sample_rate_hz == 16_000
        assert 0.9 < len(signal) / sample_rate_hz < 6
        assert np.abs(signal).max() == pytest.approx(0.9, abs=1e-3)
        assert utterance.has_labels == (utterance.split != "unlabeled")


def test_labels_are_the_mean_of_the_annotations(small):
    ratings: dict[str, list[list[float]]] = {}
    for row in read_table(small / "annotations.csv"):
        values = [row.number(name) for name in ("arousal", "dominance", "valence")]
        assert all(1 <= value <= 7 and (2 * value).is_integer() for value in values)
        ratings.setdefault(row.text("file"), []).append(values)
    labeled = [u for u in demo.read(small) if u.split != "unlabeled"]
    assert set(ratings) == {u.id for u in labeled}
    for utterance in labeled:
        assert len(ratings[utterance.id]) == SMALL.annotators
        # The manifest keeps four decimals.
        np.testing.assert_allclose(
            [utterance.labels[name] for name in VAD], np.mean(ratings[utterance.id], axis=0), atol=6e-5
        )


def test_what_is_there_is_used_again(small):
    before = {path: path.stat().st_mtime_ns for path in small.rglob("*")}
    demo.generate(small, SMALL)
    assert {path: path.stat().st_mtime_ns for path in small.rglob("*")} == before


def test_other_settings_and_other_folders_are_left_alone(small, tmp_path):
    with pytest.raises(InputError, match="demo corpus of other settings; remove it or choose another folder"):
        demo.generate(small, demo.DemoCorpus())
    (tmp_path / "thesis.txt").touch()
    with pytest.raises(InputError, match="exists and holds no demo corpus; choose another folder"):
        demo.generate(tmp_path, SMALL)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_nothing_is_left_when_it_is_interrupted(tmp_path):
    pytest.importorskip("espeakng_loader", reason="the extra 'demo' is not installed")

    def interrupt(count):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        demo.generate(tmp_path / "corpus", SMALL, interrupt)
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_rendering_left_is_removed(small, tmp_path):
    code = (
        "import os, signal, sys\nfrom pathlib import Path\nfrom emocluster_jax.corpora import demo\n"
        "config = demo.DemoCorpus(*map(int, sys.argv[2:]))\n"
        "demo.generate(Path(sys.argv[1]), config, lambda count: os.kill(os.getpid(), signal.SIGKILL))\n"
    )
    sizes = [SMALL.train_speakers, SMALL.validation_speakers, SMALL.test_speakers, SMALL.unlabeled_speakers]
    command = [sys.executable, "-c", code, tmp_path / "corpus", *map(str, [*sizes, SMALL.recordings_per_speaker])]
    assert subprocess.run(command, timeout=120).returncode == -SIGKILL
    assert [path.name for path in tmp_path.iterdir()] == [".corpus.rendering"]
    demo.generate(tmp_path / "corpus", SMALL)
    assert bytes_of(tmp_path / "corpus") == bytes_of(small)
    assert [path.name for path in tmp_path.iterdir()] == ["corpus"]


def test_two_processes_do_not_make_the_same_corpus(tmp_path):
    pytest.importorskip("espeakng_loader", reason="the extra 'demo' is not installed")
    (tmp_path / ".corpus.rendering").mkdir()
    with (
        filelock.FileLock(tmp_path / ".corpus.rendering" / "lock"),
        pytest.raises(InputError, match=r"another process is making .*corpus right now"),
    ):
        demo.generate(tmp_path / "corpus", SMALL)


def test_without_espeak_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "espeakng_loader", None)
    with pytest.raises(InputError, match=r'pip install "emocluster_jax\[demo\]"'):
        demo.generate(tmp_path / "corpus", SMALL)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"test_speakers": 0}, "`test_speakers` is 0; expected 1 to 10000"),
        ({"sample_rate_hz": 16}, "`sample_rate_hz` is 16; expected 8000 to 768000"),
        ({"train_speakers": 100}, f"has {MAXIMUM} voices, 123 were asked for"),
    ],
)
def test_settings_out_of_range(tmp_path, settings, message):
    with pytest.raises(InputError, match=message):
        demo.generate(tmp_path / "corpus", demo.DemoCorpus(**settings))
    assert list(tmp_path.iterdir()) == []


def test_reading_what_is_no_demo_corpus(tmp_path):
    with pytest.raises(InputError, match="holds no demo corpus"):
        demo.read(tmp_path)


def test_a_fault_of_espeak_is_reported():
    pytest.importorskip("espeakng_loader", reason="the extra 'demo' is not installed")
    with pytest.raises(RuntimeError, match="eSpeak NG has no voice xx-nowhere"):
        say([Speech("Hello.", "xx-nowhere", 170, 50, 50, 0)])


def test_every_voice_speaks_the_same_twice():
    pytest.importorskip("espeakng_loader", reason="the extra 'demo' is not installed")
    speakers = draw_speakers(MAXIMUM, np.random.default_rng(0))
    speeches = [Speech("The table is by the door.", speaker.voice, 170, 50, 50, 0) for speaker in speakers]
    signals = say(speeches)
    time.sleep(1.1)  # past the next second: eSpeak NG seeds itself with the clock
    again = say(speeches)
    assert len({speaker.voice.partition("+")[2] for speaker in speakers}) == MAXIMUM
    for speaker, signal, repeated in zip(speakers, signals, again, strict=True):
        np.testing.assert_array_equal(signal, repeated, speaker.voice)
        assert 0.8 < len(signal) / 22_050 < 3, speaker.voice
        assert np.abs(signal).max() > 3_000, speaker.voice


def test_arousal_is_faster_and_brighter_for_every_speaker():
    pytest.importorskip("espeakng_loader", reason="the extra 'demo' is not installed")
    for speaker in draw_speakers(6, np.random.default_rng(1)):
        measured = {}
        for arousal in (-0.8, 0.8):
            rng = np.random.default_rng(2)
            emotion = Emotion(arousal, 0.0, 0.0)
            (spoken,) = say([speech_of("The black paper is next to the window.", speaker, emotion, rng)])
            signal = voice_quality(spoken, speaker, emotion, 16_000, rng)
            power = np.abs(np.fft.rfft(signal)) ** 2
            centroid_hz = (power * np.fft.rfftfreq(len(signal), 1 / 16_000)).sum() / power.sum()
            measured[arousal] = (len(signal), centroid_hz)
        assert measured[0.8][0] < 0.75 * measured[-0.8][0], speaker.voice
        assert measured[0.8][1] > 1.2 * measured[-0.8][1], speaker.voice


def test_annotators_agree_with_the_hidden_values_but_not_perfectly():
    rng = np.random.default_rng(0)
    annotators = draw_annotators(5, rng)
    hidden = np.clip(0.45 * rng.standard_normal((2_000, 3)), -1, 1)
    ratings = np.stack([rate(values, annotators, rng) for values in hidden])
    assert ratings.min() == 1
    assert ratings.max() == 7
    for attribute in range(3):
        consensus = np.corrcoef(ratings.mean(1)[:, attribute], hidden[:, attribute])[0, 1]
        single = np.corrcoef(ratings[:, 0, attribute], hidden[:, attribute])[0, 1]
        assert 0.85 < consensus < 0.98
        assert single < consensus - 0.05


def test_sentences_are_many():
    rng = np.random.default_rng(0)
    sentences = [neutral_sentence(rng) for _ in range(300)]
    assert len(set(sentences)) > 270
    assert not any("{" in sentence for sentence in sentences)
