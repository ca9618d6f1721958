"""The demo corpus: English speech by eSpeak NG with prosody that follows hidden arousal, dominance and valence.

It is made on the user's machine in seconds, to try everything without a licensed corpus. It shows that the system works
and says nothing about how well it understands people. Simulated annotators rate it, each a little differently. On
request the sentences tell a part of the valence, for models that read a text beside the sound.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import filelock
import numpy as np
import soundfile
from jaxtyping import Float

from emocluster_jax.config import SEED, SPLITS
from emocluster_jax.corpora import demo_sentences, demo_voices, manifest
from emocluster_jax.corpora.labels import VAD
from emocluster_jax.corpora.utterance import Utterance
from emocluster_jax.errors import InputError
from emocluster_jax.ranges import Range, within
from emocluster_jax.runtime.host import usable_cores
from emocluster_jax.settings import Checked
from emocluster_jax.storage.atomic_files import beside, replacing_csv

FORMAT_VERSION = 1
_MARKER = "demo.json"
# In natural speech arousal and dominance are correlated, valence less so with either.
_CORRELATION = np.array([[1.0, 0.5, 0.1], [0.5, 1.0, 0.2], [0.1, 0.2, 1.0]])
_SPREAD = 0.45
LOWEST, HIGHEST, STEP = 1.0, 7.0, 0.5
"""The rating scale, as in MSP-Podcast."""
_NOISE = np.array([1.1, 1.2, 1.2])  # arousal, dominance, valence, in scale units
_ANNOTATOR_BIAS, _ANNOTATOR_SPREAD = 0.4, 0.12
_SOME = Range(int, 1, 10_000)


@dataclass(frozen=True)
class DemoCorpus(Checked):
    """What to make. The same settings and library versions give the same files, byte for byte."""

    train_speakers: int = field(default=24, metadata=within(_SOME))
    validation_speakers: int = field(default=5, metadata=within(_SOME))
    test_speakers: int = field(default=6, metadata=within(_SOME))
    unlabeled_speakers: int = field(default=12, metadata=within(Range(int, 0, 10_000)))
    recordings_per_speaker: int = field(default=22, metadata=within(_SOME))
    annotators: int = field(default=5, metadata=within(_SOME))
    sample_rate_hz: int = field(default=16_000, metadata=within(Range(int, 8_000, 768_000)))
    seed: int = field(default=0, metadata=within(SEED))
    text: bool = False
    """Say sentences that tell a part of the valence, and give their vectors as the further input `text`. Speakers,
    hidden values and ratings are the same without."""

    @property
    def speakers(self) -> dict[str, int]:
        """Their number by split."""
        return {split: getattr(self, f"{split}_speakers") for split in SPLITS}

    @property
    def recordings(self) -> int:
        return sum(self.speakers.values()) * self.recordings_per_speaker


def generate(directory: Path, config: DemoCorpus, progress: Callable[[int], None] | None = None) -> None:
    """Makes the demo corpus, unless it is there already.

    The folder gets `audio/SPEAKER/*.flac`, `manifest.csv` (the annotators' mean), `annotations.csv` (every rating),
    `hidden.csv` (what was expressed, from -1 to 1), a README and the settings; with `text` also `text/SPEAKER/*.npy`,
    vectors of the sentences. It is written to a hidden folder beside it, which is renamed at the end; leftovers of a
    killed process are removed. `progress` is called with the number of recordings finished since the last call.

    Raises:
      InputError: the folder holds something else, another process is making it, or eSpeak NG is not installed.
    """
    if _is_made(directory, config):
        return
    demo_voices.installed_paths()
    rendering = beside(directory, ".{}.rendering")
    rendering.mkdir(parents=True, exist_ok=True)
    lock, unfinished = filelock.FileLock(rendering / "lock", timeout=0), rendering / "corpus"
    try:
        lock.acquire()
    except filelock.Timeout:
        raise InputError(f"another process is making {directory} right now; wait until it has finished") from None
    try:
        if not _is_made(directory, config):  # by another process just now
            if unfinished.exists():
                shutil.rmtree(unfinished)
            unfinished.mkdir()
            _write(unfinished, config, progress or (lambda count: None))
            unfinished.rename(directory)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
        lock.release()
        # Only after the lock is released: NFS cannot remove an open file or its folder.
        with suppress(OSError):
            (rendering / "lock").unlink()
            rendering.rmdir()


@dataclass(frozen=True)
class DemoOptions:
    """Which demo corpus."""

    demo_text: bool = False
    """With the demo corpus: its sentences tell a part of the valence, and have vectors, hashed bags of words, as the
    further input `text`."""


_DEFAULT = DemoOptions()


def read(source: Path, options: DemoOptions = _DEFAULT) -> list[Utterance]:
    """Reads what `generate` made: one row per recording, sorted by id.

    Raises:
      InputError: the folder holds no demo corpus, or the one without text where `options` want it, or the reverse.
    """
    try:
        with_text = _found(source).get("text", False)
    except (OSError, ValueError):
        raise InputError(
            f"{source} holds no demo corpus (no {_MARKER}); make it first or name another folder"
        ) from None
    if with_text != options.demo_text:
        found, remedy = ("with", "add") if with_text else ("without", "leave out")
        raise InputError(f"{source} holds a demo corpus {found} text; {remedy} `demo_text`, or name another folder")
    return manifest.read(source / "manifest.csv")


@dataclass(frozen=True)
class _Recording:
    speaker: demo_voices.Speaker
    split: str
    file: str
    text: str
    hidden: Float[np.ndarray, " attributes"]
    ratings: Float[np.ndarray, "annotators attributes"]

    @property
    def vector_file(self) -> str:
        """Where the sentence's vector is, in a corpus with text."""
        return f"text/{self.speaker.name}/{Path(self.file).stem}.npy"


def _write(directory: Path, config: DemoCorpus, progress: Callable[[int], None]) -> None:
    rng = np.random.default_rng(config.seed)
    # Splits are spread evenly over the speakers, so that each gets its share of women and men.
    places = sorted(((i + 0.5) / count, split) for split, count in config.speakers.items() for i in range(count))
    speakers = demo_voices.draw_speakers(len(places), rng)
    annotators = draw_annotators(config.annotators, rng)
    # Threads suffice: eSpeak NG runs in processes of its own, and NumPy, soxr and the encoder release the GIL.
    with ThreadPoolExecutor(max_workers=usable_cores()) as pool:
        jobs = [
            pool.submit(_record, directory, index, speaker, split, annotators, config)
            for index, (speaker, (_, split)) in enumerate(zip(speakers, places, strict=True))
        ]
        try:
            for job in as_completed(jobs):
                progress(len(job.result()))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    recordings = [recording for job in jobs for recording in job.result()]
    _write_tables(directory, recordings, config.text)
    (directory / "README.md").write_text(_readme(recordings, config))
    (directory / _MARKER).write_text(json.dumps(_settings(config), indent=2) + "\n")


def _record(
    directory: Path,
    index: int,
    speaker: demo_voices.Speaker,
    split: str,
    annotators: Float[np.ndarray, "annotators 2 attributes"],
    config: DemoCorpus,
) -> list[_Recording]:
    rng, opinions = (np.random.default_rng([config.seed, stream, index]) for stream in (1, 3))
    factor = np.linalg.cholesky(_CORRELATION)
    recordings = []
    for number in range(config.recordings_per_speaker):
        hidden = np.clip(_SPREAD * factor @ rng.standard_normal(len(VAD)), -1, 1)
        file = f"audio/{speaker.name}/{speaker.name}_{number:03d}.flac"
        text = demo_sentences.neutral_sentence(rng)  # drawn in either case, and then the ratings are the same
        if config.text:
            text = demo_sentences.telling_sentence(float(hidden[VAD.index("valence")]), opinions)
        ratings = rate(hidden, annotators, rng)
        recordings.append(_Recording(speaker, split, file, text, hidden, ratings))
    rng = np.random.default_rng([config.seed, 2, index])
    emotions = [demo_voices.Emotion(*map(float, recording.hidden)) for recording in recordings]
    speeches = [
        demo_voices.speech_of(r.text, speaker, emotion, rng) for r, emotion in zip(recordings, emotions, strict=True)
    ]
    (directory / "audio" / speaker.name).mkdir(parents=True)
    if config.text:
        (directory / "text" / speaker.name).mkdir(parents=True)
        for recording, vector in zip(recordings, demo_sentences.vectors([r.text for r in recordings]), strict=True):
            np.save(directory / recording.vector_file, vector)
    for recording, emotion, spoken in zip(recordings, emotions, demo_voices.say(speeches), strict=True):
        signal = demo_voices.voice_quality(spoken, speaker, emotion, config.sample_rate_hz, rng)
        soundfile.write(directory / recording.file, signal, config.sample_rate_hz, subtype="PCM_16")
    return recordings


def draw_annotators(count: int, rng: np.random.Generator) -> Float[np.ndarray, "annotators 2 attributes"]:
    """Each annotator's bias (scale units) and use of the scale (factor), per attribute."""
    shape = (count, len(VAD))
    return np.stack([rng.normal(0, _ANNOTATOR_BIAS, shape), rng.normal(1, _ANNOTATOR_SPREAD, shape)], axis=1)


def rate(
    hidden: Float[np.ndarray, " attributes"],
    annotators: Float[np.ndarray, "annotators 2 attributes"],
    rng: np.random.Generator,
) -> Float[np.ndarray, "annotators attributes"]:
    """Rates one recording on the scale, given what was expressed, from -1 to 1, in the order of `VAD`."""
    bias, spread = annotators[:, 0], annotators[:, 1]
    heard = on_scale(hidden * spread) + bias + rng.normal(0, 1, bias.shape) * _NOISE
    return np.clip(np.round(heard / STEP) * STEP, LOWEST, HIGHEST)


def on_scale(hidden: Float[np.ndarray, "*any"]) -> Float[np.ndarray, "*any"]:
    """Values from -1 to 1 on the rating scale, without any annotator's error."""
    return (LOWEST + HIGHEST) / 2 + hidden * (HIGHEST - LOWEST) / 2


def _write_tables(directory: Path, recordings: Sequence[_Recording], text: bool) -> None:
    manifest_rows, annotation_rows, hidden_rows = [], [], []
    for recording in recordings:
        speaker, ratings = recording.speaker, recording.ratings
        labels = [f"{mean:.4f}" for mean in ratings.mean(axis=0)]
        if recording.split == "unlabeled":
            labels, ratings = [""] * len(VAD), ()
        vector = [recording.vector_file] if text else []
        manifest_rows.append([recording.file, recording.split, speaker.name, speaker.gender, *vector, *labels])
        annotation_rows += [[recording.file, f"annotator{i}", *rated] for i, rated in enumerate(ratings, start=1)]
        hidden_rows.append([recording.file, recording.text, *(f"{value:.6f}" for value in recording.hidden)])
    for name, columns, rows in (
        ("manifest.csv", ("file", "split", "speaker", "gender", *(["input:text"] if text else [])), manifest_rows),
        ("annotations.csv", ("file", "annotator"), annotation_rows),
        ("hidden.csv", ("file", "text"), hidden_rows),
    ):
        with replacing_csv(directory / name) as table:
            table.writerows([[*columns, *VAD], *rows])


_README_OF_TEXT = """\
- `text`: vectors of the sentences, hashed bags of words, which `manifest.csv` names as `input:text`; some words are as
  good or bad as the valence that was expressed, but not reliably so
"""


def _readme(recordings: Sequence[_Recording], config: DemoCorpus) -> str:
    """Describes the corpus, with the best CCC that the annotators' noise allows on the test split."""
    test = [recording for recording in recordings if recording.split == "test"]
    ratings = np.stack([recording.ratings.mean(axis=0) for recording in test])
    hidden = on_scale(np.stack([recording.hidden for recording in test]))
    # Lin's concordance of the consensus with the hidden values.
    covariance = ((ratings - ratings.mean(0)) * (hidden - hidden.mean(0))).mean(0)
    ceiling = 2 * covariance / (ratings.var(0) + hidden.var(0) + (ratings.mean(0) - hidden.mean(0)) ** 2)
    best = ", ".join(f"{name} {value:.2f}" for name, value in zip(VAD, ceiling, strict=True))
    return (
        "# The demo corpus of emocluster_jax\n\n"
        "Synthetic speech, rendered by eSpeak NG (voices of the package espeakng-loader) and filtered; its prosody\n"
        f"follows hidden attributes, which {config.annotators} simulated annotators rated from 1 to 7 with noise.\n"
        "It shows that the system works and says nothing about how well it hears people.\n\n"
        "- `manifest.csv`: recordings, speaker-independent split, mean ratings\n"
        "- `annotations.csv`: every rating\n"
        "- `hidden.csv`: the sentences and what was expressed, from -1 to 1\n"
        f"{_README_OF_TEXT if config.text else ''}\n"
        f"CCC between mean ratings and hidden values on the test split (no model can be much better): {best}.\n"
    )


def _settings(config: DemoCorpus) -> dict[str, object]:
    settings = {"format_version": FORMAT_VERSION, **dataclasses.asdict(config)}
    if not config.text:  # as in corpora of versions that knew no text
        del settings["text"]
    return settings


def _found(directory: Path) -> dict[str, Any]:
    """The settings of a demo corpus; OSError or ValueError where there is none."""
    settings = json.loads((directory / _MARKER).read_text())
    if not isinstance(settings, dict):
        raise ValueError(settings)
    return settings


def _is_made(directory: Path, config: DemoCorpus) -> bool:
    """Whether the folder holds the demo corpus of these settings; InputError if it holds anything else."""
    if not directory.exists() or (directory.is_dir() and not any(directory.iterdir())):
        return False
    try:
        found = _found(directory)
    except (OSError, ValueError):
        raise InputError(f"{directory} exists and holds no demo corpus; choose another folder") from None
    if found != _settings(config):
        raise InputError(f"{directory} holds a demo corpus of other settings; remove it or choose another folder")
    return True
