"""From a corpus to a data directory of records."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from emocluster_jax.config import (
    DEFAULT_AUDIO,
    FRAME_RATE,
    SPLITS,
    WORKERS,
    AudioConfig,
    FeatureConfig,
    Features,
    GivenFeatures,
    channel_number,
)
from emocluster_jax.console import Console
from emocluster_jax.corpora.audio_files import AUDIO_SUFFIXES, FRAME_SUFFIXES
from emocluster_jax.corpora.label_checks import outlying_labels
from emocluster_jax.corpora.registry import CorpusName, options_of, read_corpus
from emocluster_jax.corpora.utterance import Utterance
from emocluster_jax.errors import InputError
from emocluster_jax.preprocessing.given_frames import most_frequent_dimensions, shape_of
from emocluster_jax.preprocessing.normalization import FeatureStatistics
from emocluster_jax.records.beam import BeamRunner, beam_runner
from emocluster_jax.records.folds import checked_request, in_one_split
from emocluster_jax.records.preparation import FILE_NAME, GivenStatistics, Preparation, read_preparation
from emocluster_jax.records.writer import prepare as write_records
from emocluster_jax.runtime.host import usable_cores
from emocluster_jax.storage.disk import check_output_folder, check_path

_WITHOUT = {
    "train": "nothing can be learned from labels",
    "validation": "training cannot tell which epoch is best, and will keep the last",
    "test": "training will end without test scores",
    "unlabeled": "all that lies in the folder of `unlabeled` is in the corpus already",
}
"""What follows from it that a split is empty."""
_BUCKET = re.compile("[a-z][a-z0-9]+:/")  # a path that was `gs://...`


def prepare(
    corpus: CorpusName,
    source: Path | str,
    data_dir: Path | str,
    *,
    unlabeled: Path | str | None = None,
    unlabeled_limit: int | None = None,
    window_ms: float = 32,
    hop_ms: float = 16,
    mel_bands: int = 128,
    frame_rate: float | None = None,
    statistics_from: Path | str | None = None,
    folds: int | Literal["speakers"] | None = None,
    channel: int | str = "mix",
    remove_dc: bool = False,
    strict_audio: bool = False,
    workers: int | None = None,
    beam: str | None = None,
    beam_options: Sequence[str] = (),
    corpus_options: Mapping[str, Any] | None = None,
    console: Console | None = None,
) -> Preparation:
    """Reads a corpus and writes its chunks as TFDS records, or finds that they are there already.

    A recording of any rate and duration becomes chunks (C, frames, mel), (11, 62, 128) of float16: normalised, without
    a unit; given features become (11, frames of a second, dimensions). A call that was interrupted goes on where it
    stopped when it is repeated.

    Args:
      corpus: what lies in the source folder, as `launch.prepare `corpus`` names it.
      source: the corpus's folder, or, of `manifest`, the CSV file in it. `demo` makes its recordings there.
      data_dir: where the records go.
      unlabeled: a folder of recordings without labels, which join the unlabelled split.
      unlabeled_limit: take this many of that folder; a smaller number is part of a larger.
      window_ms: length of the mel spectrogram's windows, in milliseconds.
      hop_ms: from the beginning of one window to that of the next, in milliseconds.
      mel_bands: of the mel spectrogram.
      frame_rate: frames a second, where the recordings are files of features (.npy, frames by dimensions).
      statistics_from: a data directory, or a model directory, whose feature statistics the chunks are normalised by,
        instead of those of this corpus's training split.
      folds: deal all labelled recordings, whatever their split, out to this many folds by speaker, or to a fold for
        each speaker, for `fit` to choose one to test on.
      channel: which channel of a recording to use, from 1, "first", or "mix" for the mean of all.
      remove_dc: subtract a recording's mean before its peak is taken.
      strict_audio: leave out a recording whose file was cut short, instead of using what is there.
      workers: processes that decode and write; None for one a core. With more than one, a script calls this below
        `if __name__ == "__main__":`, since they import it again; a notebook need not.
      beam: the Apache Beam runner that decodes and writes in place of local processes.
      beam_options: of that runner, without their dashes.
      corpus_options: options of the corpus's own by name, such as `{"english": "unlabeled"}` of `emotale`.
      console: shows how far it is; None for one that prints.

    Returns:
      What the data directory says of itself: counts and hours a split, statistics, what was left out and why.

    Raises:
      InputError: what is wrong with the request or the corpus, in terms of the command's options.
    """
    console = console or Console()
    source, data_dir, unlabeled = Path(source), Path(data_dir), None if unlabeled is None else Path(unlabeled)
    own = options_of(corpus, corpus_options or {})
    if unlabeled_limit is not None and unlabeled is None:
        raise InputError("`unlabeled_limit` needs `unlabeled`, the folder that it limits")
    if folds is not None:
        folds = checked_request(folds)
    audio = AudioConfig(channel_number(channel), remove_dc, strict_audio)
    spectrogram = FeatureConfig.of_windows(window_ms, hop_ms, mel_bands)
    if frame_rate is not None:
        if spectrogram != FeatureConfig():
            raise InputError(
                "`frame_rate` says that the recordings are features; leave out `window_ms`, `hop_ms` and `mel_bands`, "
                "which make a spectrogram"
            )
        if audio != DEFAULT_AUDIO:
            raise InputError(
                "`frame_rate` says that the recordings are features; leave out `channel`, `remove_dc` and "
                "`strict_audio`, which are about audio"
            )
        FRAME_RATE.check("`frame_rate`", frame_rate)
    runner = _workers(workers, beam, beam_options, data_dir)  # before anything is read
    _check_outputs(corpus, source, data_dir)
    suffixes = AUDIO_SUFFIXES if frame_rate is None else FRAME_SUFFIXES
    with console.showing_log():
        if corpus == "demo":
            _make_demo(source, console)
        utterances = read_corpus(corpus, source, own, suffixes, unlabeled, unlabeled_limit)
    for warning in outlying_labels(utterances):
        console.warn(warning)
    preparation = write_records(
        utterances,
        data_dir,
        _features(spectrogram, frame_rate, source, utterances, console),
        corpus=corpus,
        source=os.path.abspath(source if source.is_dir() else source.parent),  # noqa: PTH100 (links stay)
        workers=runner,
        console=console,
        given=None if statistics_from is None else _given_statistics(Path(statistics_from)),
        folds=folds,
        audio=audio,
    )
    pool_asked_for = unlabeled is not None and unlabeled_limit != 0
    rows = Counter(u.split for u in (utterances if folds is None else in_one_split(utterances)))
    for_training = statistics_from is None and folds is None
    for warning in _empty_splits(rows, preparation, for_training, pool_asked_for):
        console.warn(warning)
    return preparation


def _given_statistics(folder: Path) -> GivenStatistics:
    """The feature statistics of a prepared data directory or of a model directory."""
    if not (folder / "model.json").exists():
        data = read_preparation(folder)
        return GivenStatistics(data.feature_statistics, data.features, str(folder))
    from emocluster_jax.inference.model_directory import read_model  # brings JAX, which no other preparation needs

    model = read_model(folder)
    return GivenStatistics(FeatureStatistics(model.feature_mean, model.feature_std), model.features, str(folder))


def _empty_splits(
    rows: Mapping[str, int], preparation: Preparation, for_training: bool, pool_asked_for: bool
) -> Iterator[str]:
    """A warning for each split that is empty although the corpus, or the request, lets one expect recordings in it.

    A corpus without labels has a pool alone. One that is prepared with another's statistics is there to evaluate a
    model, for which one split will do; folds are made of a single one.
    """
    expected = {"unlabeled"} if pool_asked_for else set()
    if for_training and rows.keys() - {"unlabeled"}:
        expected |= set(SPLITS) - {"unlabeled"}
    for split in SPLITS:
        if split in preparation.counts:
            continue
        if rows.get(split):
            yield f"the {split} split is empty: none of its {rows[split]} recordings could be used"
        elif split in expected:
            yield f"the {split} split is empty, since no recording is in it: {_WITHOUT[split]}"


def _workers(workers: int | None, beam: str | None, beam_options: Sequence[str], data_dir: Path) -> int | BeamRunner:
    if workers is not None:
        workers = WORKERS.check("`workers`", workers)
    if beam is None:
        if beam_options:
            raise InputError("`beam_options` needs `beam`, whose options they are")
        return workers or usable_cores()
    if workers is not None:
        raise InputError("`workers` counts local processes; with `beam` say how many in `beam_options`")
    if _BUCKET.match(str(data_dir)):
        raise InputError(
            f"`data_dir={data_dir}` is not a folder; Beam workers write to a file system that all of them mount"
        )
    return beam_runner(beam, beam_options)


def _check_outputs(corpus: CorpusName, source: Path, data_dir: Path) -> None:
    """Raises InputError where nothing can be written to the data directory, or, of the demo, to the source folder."""
    # Records that are there already may be on a disk that can only be read. Others appear by a rename from beside.
    data_dir = Path(os.path.realpath(data_dir))
    check_path("`data_dir`", data_dir)
    if not (data_dir / FILE_NAME).exists():
        check_output_folder("`data_dir`", data_dir.parent if data_dir.is_dir() else data_dir)
    if corpus == "demo":
        check_path("`source`", source)
        if not source.exists():
            check_output_folder("`source`", source)


def _make_demo(source: Path, console: Console) -> None:
    from emocluster_jax.corpora import demo

    config = demo.DemoCorpus()
    with console.task("rendering the demo corpus", total=config.recordings) as task:
        demo.generate(source, config, task.advance)


def _features(
    spectrogram: FeatureConfig,
    frame_rate: float | None,
    source: Path,
    utterances: Sequence[Utterance],
    console: Console,
) -> Features:
    """The settings of the mel spectrogram, or of the features that the recordings are given as."""
    if frame_rate is None:
        if all(utterance.path.suffix.lower() in FRAME_SUFFIXES for utterance in utterances):
            raise InputError(
                f"the recordings of {source} are .npy files; say by `frame_rate` how many frames a second they have"
            )
        return spectrogram

    with console.task("reading headers", total=len(utterances)) as task:

        def paths() -> Iterator[Path]:
            for utterance in utterances:
                yield utterance.path
                task.advance()

        dimensions = most_frequent_dimensions(paths())
    if dimensions is None:
        first = utterances[0].path
        shape = shape_of(first)
        raise InputError(
            f"`frame_rate` is given, but none of the {len(utterances)} recordings of {source} is a .npy file of frames "
            f"(first: {first}{'' if shape is None else f', an array of shape {shape}; expected (frames, dimensions)'})"
        )
    return GivenFeatures(dimensions, frame_rate)
