"""From a corpus to a data directory of records."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from emocluster_jax.api.requests import PrepareRequest, asked_by
from emocluster_jax.config import AUDIO, SPLITS, Features, FrontEndFeatures, GivenFeatures, front_end_named
from emocluster_jax.console import Console
from emocluster_jax.corpora import demo
from emocluster_jax.corpora.audio_files import AUDIO_SUFFIXES, FRAME_SUFFIXES
from emocluster_jax.corpora.labels import outlying_labels
from emocluster_jax.corpora.registry import CorpusName, options_of, read_corpus
from emocluster_jax.corpora.utterance import Utterance
from emocluster_jax.errors import InputError, one_line
from emocluster_jax.preprocessing.front_ends import library
from emocluster_jax.preprocessing.given_frames import most_frequent_numbers, shape_of
from emocluster_jax.preprocessing.normalization import Statistics
from emocluster_jax.records.beam import BeamRunner, beam_runner
from emocluster_jax.records.folds import in_one_split
from emocluster_jax.records.preparation import FILE_NAME, GivenStatistics, Preparation, read_preparation
from emocluster_jax.records.writer import prepare as write_records
from emocluster_jax.runtime.host import usable_cores
from emocluster_jax.storage.disk import check_output_folder, check_path

_WITHOUT = {
    "train": "nothing can be learned from labels",
    "validation": "training cannot tell which epoch is best, and will keep the last",
    "test": "training will end without test scores",
    "unlabeled": "everything in the folder of `unlabeled` is in the corpus already",
}
"""What it means that a split is empty."""
_BUCKET = re.compile("[a-z][a-z0-9]+:/")  # a path that was `gs://...`


@asked_by(PrepareRequest)
def prepare(request: PrepareRequest) -> Preparation:
    """Reads a corpus and writes its chunks as TFDS records, unless they are there already.

    The arguments are the fields of `PrepareRequest`. A recording of any rate and duration becomes normalised chunks (C,
    frames, mel) of float16, (11, 62, 128) by default; other features become (11, frames per second, dimensions). An
    interrupted call goes on where it stopped when it is repeated.

    Returns:
      Recordings and hours per split, statistics, what was left out and why.

    Raises:
      InputError: what is wrong with the request or the corpus.
    """
    console, corpus = request.console or Console(), request.corpus
    source, data_dir, folds = Path(request.source), Path(request.data_dir), request.folds
    unlabeled = None if request.unlabeled is None else Path(request.unlabeled)
    own = options_of(corpus, request.corpus_options)
    _check_outputs(corpus, source, data_dir)  # before anything is read
    front_end = _front_end(request, console)
    runner = _runner(request, data_dir, front_end)
    suffixes = AUDIO_SUFFIXES if request.frame_rate is None else FRAME_SUFFIXES
    with console.showing_log():
        if isinstance(own, demo.DemoOptions):
            _make_demo(source, demo.DemoCorpus(text=own.demo_text), console)
        utterances = read_corpus(corpus, source, own, suffixes, unlabeled, request.unlabeled_limit)
    if request.inputs is not None:
        utterances = _with_inputs_of(request, utterances)
    for warning in outlying_labels(utterances):
        console.warn(warning)
    preparation = write_records(
        utterances,
        data_dir,
        _features(request, utterances, front_end, console),
        corpus=corpus,
        source=os.path.abspath(source if source.is_dir() else source.parent),  # noqa: PTH100 (links stay)
        workers=runner,
        console=console,
        given=None if request.statistics_from is None else _given_statistics(Path(request.statistics_from)),
        folds=folds,
        audio=request.audio,
        input_rates=request.input_rates,
    )
    for warning in _empty_splits(request, utterances, preparation):
        console.warn(warning)
    return preparation


def _with_inputs_of(request: PrepareRequest, utterances: Sequence[Utterance]) -> list[Utterance]:
    """The rows with those of their further inputs alone that the request names; InputError for one that none has."""
    wanted = set(request.inputs or ()) - {AUDIO, request.features}
    there = {name for utterance in utterances for name in utterance.inputs}
    if missing := ", ".join(sorted(wanted - there)):
        raise InputError(
            f"`inputs` names {missing}, and no recording has it; besides audio they have "
            f"{', '.join(sorted(there)) or 'nothing'}; give its files in a column input:NAME of the manifest, or leave "
            "it out"
        )
    if unread := ", ".join(sorted(request.input_rates.keys() & there - wanted)):
        raise InputError(
            f"`input_rates` names {unread}, which `inputs` leaves out; name it there, or leave out its rate"
        )
    return [
        replace(utterance, inputs={name: path for name, path in utterance.inputs.items() if name in wanted})
        for utterance in utterances
    ]


def _given_statistics(folder: Path) -> GivenStatistics:
    """The feature statistics of a prepared data directory or of a model directory."""
    if not (folder / "model.json").exists():
        data = read_preparation(folder)
        return GivenStatistics(data.feature_statistics, data.features, str(folder))
    from emocluster_jax.inference.model_directory import read_model  # brings JAX, which no other preparation needs

    model = read_model(folder)
    return GivenStatistics(Statistics(model.feature_mean, model.feature_std), model.features, str(folder))


def _empty_splits(request: PrepareRequest, utterances: Sequence[Utterance], preparation: Preparation) -> Iterator[str]:
    """A warning for each split that is empty although the corpus or the request makes one expect recordings in it.

    A corpus without labels has only a pool; one with other data's statistics serves to evaluate a model, for which one
    split is enough; folds have only one.
    """
    rows = Counter(u.split for u in (utterances if request.folds is None else in_one_split(utterances)))
    expected = {"unlabeled"} if request.unlabeled is not None and request.unlabeled_limit != 0 else set()
    if request.statistics_from is None and request.folds is None and rows.keys() - {"unlabeled"}:
        expected |= set(SPLITS) - {"unlabeled"}
    for split in SPLITS:
        if split in preparation.counts:
            continue
        if rows.get(split):
            yield f"the {split} split is empty: none of its {rows[split]} recordings could be used"
        elif split in expected:
            yield f"the {split} split is empty, since no recording is in it: {_WITHOUT[split]}"


def _front_end(request: PrepareRequest, console: Console) -> FrontEndFeatures | None:
    """The settings of the features that another library makes; None for others."""
    if (named := front_end_named(request.features)) is None:
        return None
    name, *of_library = named
    features = library(name).settings(*of_library)
    console.line(one_line(features.summary + (f" at commit {features.revision}" if features.revision else "")))
    if notice := library(name).NOTICE:
        console.line(notice)
    return features


def _runner(request: PrepareRequest, data_dir: Path, front_end: FrontEndFeatures | None) -> int | BeamRunner:
    """What decodes and writes: this many processes, or Beam."""
    if request.beam is None:
        on_gpu = front_end is not None and library(front_end.library).uses_gpu()
        return request.workers or (1 if on_gpu else usable_cores())
    if _BUCKET.match(str(data_dir)):
        raise InputError(
            f"`data_dir={data_dir}` is not a folder; Beam workers write to a file system that all of them mount"
        )
    return beam_runner(request.beam, request.beam_options)


def _check_outputs(corpus: CorpusName, source: Path, data_dir: Path) -> None:
    """Raises InputError if the data directory, or the demo's source folder, cannot be written."""
    # Existing records may be on a read-only disk; new ones are renamed from beside.
    data_dir = Path(os.path.realpath(data_dir))
    check_path("`data_dir`", data_dir)
    if not (data_dir / FILE_NAME).exists():
        check_output_folder("`data_dir`", data_dir.parent if data_dir.is_dir() else data_dir)
    if corpus == "demo":
        check_path("`source`", source)
        if not source.exists():
            check_output_folder("`source`", source)


def _make_demo(source: Path, config: demo.DemoCorpus, console: Console) -> None:
    with console.task("rendering the demo corpus", total=config.recordings, unit="recordings") as task:
        demo.generate(source, config, task.advance)


def _features(
    request: PrepareRequest, utterances: Sequence[Utterance], front_end: FrontEndFeatures | None, console: Console
) -> Features:
    """The settings of the mel spectrogram, of the front end, or of the given features."""
    source = Path(request.source)
    if request.frame_rate is None:
        if all(utterance.path.suffix.lower() in FRAME_SUFFIXES for utterance in utterances):
            raise InputError(
                f"the recordings of {source} are .npy files; say by `frame_rate` how many frames per second they have"
            )
        return front_end or request.spectrogram

    with console.task("reading headers", total=len(utterances), unit="recordings") as task:

        def paths() -> Iterator[Path]:
            for utterance in utterances:
                yield utterance.path
                task.advance()

        dimensions = most_frequent_numbers(paths(), of_frames=True)
    if dimensions is None:
        first = utterances[0].path
        shape = shape_of(first)
        raise InputError(
            f"`frame_rate` is given, but none of the {len(utterances)} recordings of {source} is a .npy file of frames "
            f"(first: {first}{'' if shape is None else f', an array of shape {shape}; expected (frames, dimensions)'})"
        )
    return GivenFeatures(dimensions, request.frame_rate)
