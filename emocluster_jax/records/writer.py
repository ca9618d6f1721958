"""From a corpus's rows to a prepared data directory, in parallel and in constant memory.

First pass: the training recordings are decoded; their spectrograms are spooled to disk, and the moments of their frames
merged recording by recording, in order. Second pass: all shards are normalised and written. Until all is done,
everything lies in `DATA_DIR.preparing`, where a run after a kill finds the shards that were done.
"""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial, reduce
from itertools import chain
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from emocluster_jax.config import DEFAULT_AUDIO, SPLITS, AudioConfig, Features
from emocluster_jax.corpora.inputs import NUMBERS, FurtherInput, FurtherInputs
from emocluster_jax.corpora.labels import VAD, label_names
from emocluster_jax.corpora.speaker_split import fold_warnings, shared_speakers, shared_speakers_warning
from emocluster_jax.corpora.utterance import Utterance
from emocluster_jax.errors import InputError
from emocluster_jax.preprocessing.given_frames import most_frequent_numbers, shape_of
from emocluster_jax.preprocessing.normalization import Statistics, feature_statistics, merge, no_frames
from emocluster_jax.records.beam import BeamRunner, run_on_beam
from emocluster_jax.records.data_folder import (
    clear_unfinished,
    discard,
    existing_preparation,
    finished_folder,
    publish,
    unfinished_folder,
)
from emocluster_jax.records.folds import FoldsRequest, deal_folds, in_one_split
from emocluster_jax.records.preparation import (
    GivenStatistics,
    Layout,
    Preparation,
    RecordFile,
    SkippedRecording,
    label_statistics,
    metadata_checksums,
    write_preparation,
)
from emocluster_jax.records.shard_work import ShardReport, ShardWork
from emocluster_jax.records.shards import Shard, check_utterances, plan_shards, request_sha256
from emocluster_jax.records.workers import RunShards, ShardPass, shard_workers
from emocluster_jax.storage.atomic_files import replacing

if TYPE_CHECKING:
    from emocluster_jax.console import Console


def prepare(
    utterances: Sequence[Utterance],
    data_dir: Path,
    features: Features,
    corpus: str,
    source: str,
    workers: int | BeamRunner,
    console: Console,
    given: GivenStatistics | None = None,
    folds: FoldsRequest | None = None,
    audio: AudioConfig = DEFAULT_AUDIO,
    input_rates: Mapping[str, float] = MappingProxyType({}),
) -> Preparation:
    """Decodes, normalises and writes a corpus as TFDS records.

    The records are the same, bit for bit, for any kind and number of workers and after any number of interruptions.
    Recordings that cannot be used are left out, each with its reason, also those that crash their decoder. Data that
    the same request made before are re-used.

    Args:
      data_dir: where the records go; absent, empty, or holding what the same request made.
      corpus: name of the corpus, for the record.
      source: its folder, for the record.
      workers: processes that decode and write, or a Beam runner. With more than one process, call this from a module
        that can be imported again (`if __name__ == "__main__":`).
      given: feature statistics of other data to use; None computes them over the training split or, if there is none,
        over the unlabelled one.
      folds: assign all labelled recordings, whatever their split, to folds by speaker; they become the split
        `train`, and each run selects its own three splits from it (`PreparedData.locate`).
      input_rates: frames per second of those further inputs that are frames, by name; all others are vectors.

    Raises:
      InputError: rows contradict each other, `data_dir` holds something else, no training recording or no file of an
        input could be used, there are too few speakers for the folds, a worker or the Beam runner failed, or the disk
        is full.
    """
    check_utterances(utterances)
    if folds is not None:
        utterances = in_one_split(utterances)
        # What could be used is known only later; but if all is not enough, that is known now.
        deal_folds([u for u in utterances if u.split == "train"], folds)
        for warning in fold_warnings(utterances):
            console.warn(warning)
    elif shared := shared_speakers(utterances):
        console.warn(shared_speakers_warning(shared))
    shards = plan_shards(utterances)
    if given is None:
        key = basis = _statistics_split(shards)
    else:
        if given.features != features:
            raise InputError(f"{given.source} was made with other feature settings; its statistics do not fit")
        basis = given.source
        key = "".join(vector.tobytes().hex() for vector in (given.values.mean, given.values.std))

    labels, inputs = label_names(utterances), _further_inputs(utterances, input_rates, features)
    layout = Layout(features, labels, inputs)
    request = request_sha256(utterances, features, key, folds, audio, labels, inputs)
    requests = {request}
    if set(labels) <= set(VAD):  # earlier versions always kept all three
        requests.add(request_sha256(utterances, features, key, folds, audio, VAD, inputs))
    data_dir = Path(os.path.realpath(data_dir))
    existing = existing_preparation(data_dir, requests)
    if existing is not None:
        clear_unfinished(data_dir, request)
        console.line(f"{data_dir} holds these recordings already; using them")
        return existing
    if given is None and basis == "unlabeled":
        console.line("no training split: the features are normalised by the statistics of the unlabelled recordings")
    if given is None and folds is not None:
        console.line(
            "the features are normalised by the statistics of all labelled recordings, each fold's test recordings "
            "included (labels play no part); where that is not wanted, prepare each fold on its own, by a column split"
        )

    with unfinished_folder(data_dir, request) as folder, _shard_runner(workers, folder) as run:
        work = ShardWork(layout, audio, folder)
        statistics = given.values if given else _computed_statistics(basis, shards, work, run, console)
        write = ShardPass(partial(work.write, statistics=statistics), work.is_written, work.examine)
        _run("writing records", write, shards, run, console)

        reports = {shard: work.report(shard) for shard in shards}
        _check_training_split(reports, folder)
        finished = finished_folder(folder)
        preparation = Preparation(
            corpus=corpus,
            source=source,
            request=request,
            features=features,
            feature_statistics=statistics,
            statistics_from=basis,
            files=tuple(_collect(reports, finished, folder, layout)),
            metadata=metadata_checksums(finished),
            audio=audio,
            labels=labels,
            inputs=inputs,
            **_totals(reports, labels, folds),
        )
        write_preparation(finished, preparation)
        publish(folder, data_dir)
    return preparation


def _further_inputs(utterances: Sequence[Utterance], rates: Mapping[str, float], features: Features) -> FurtherInputs:
    """The further inputs of these rows, with as many numbers as most of their vectors, or frames, have."""
    names = sorted({name for utterance in utterances for name in utterance.inputs})
    if unknown := ", ".join(sorted(rates.keys() - set(names))):
        raise InputError(
            f"`input_rates` names {unknown}, and no recording has it; besides audio they have "
            f"{', '.join(names) or 'nothing'}"
        )
    found = []
    for name in names:
        paths = [utterance.inputs[name] for utterance in utterances if name in utterance.inputs]
        rate = rates.get(name)
        numbers = most_frequent_numbers(paths, of_frames=rate is not None)
        if numbers is None:
            shape = shape_of(paths[0])
            first = f"{paths[0]}{'' if shape is None else f', an array of shape {shape}'}"
            wanted, remedy = (
                ("one vector, (numbers,)", ", or give the rate of frames by `input_rates`")
                if rate is None
                else ("frames, (frames, numbers)", "")
            )
            raise InputError(
                f"none of the {len(paths)} files of the input {name} is a .npy file of {wanted} (first: {first}); "
                f"check their paths, and what they hold{remedy}"
            )
        given = FurtherInput(name, NUMBERS.check(f"the length of the input {name}", numbers), rate)
        given.shape(features)  # checks its size
        found.append(given)
    return tuple(found)


def _shard_runner(workers: int | BeamRunner, folder: Path) -> AbstractContextManager[RunShards]:
    return shard_workers(workers) if isinstance(workers, int) else nullcontext(partial(run_on_beam, workers, folder))


def _totals(reports: dict[Shard, ShardReport], labels: Sequence[str], folds: FoldsRequest | None) -> dict[str, Any]:
    """The fields of `Preparation` about the recordings, added up over the shards."""
    counts: Counter[str] = Counter()
    hours: defaultdict[str, float] = defaultdict(float)
    noticed: Counter[str] = Counter()
    for shard, report in reports.items():
        noticed.update(report.noticed)
        if report.records:
            counts[shard.split] += report.records
            hours[shard.split] += report.duration_s / 3600
    skipped = {id: reason for report in reports.values() for id, reason in report.skipped}
    used = [u for shard in reports for u in shard.utterances if u.id not in skipped]
    train = [u for u in used if u.split == "train"]
    return {
        "label_statistics": label_statistics(train, labels),
        "counts": dict(counts),
        "hours": dict(hours),
        "skipped": tuple(SkippedRecording(id, reason) for id, reason in skipped.items()),
        "padded": sum(report.padded for report in reports.values()),
        "shared_speakers": shared_speakers(used),
        "folds": None if folds is None else deal_folds(train, folds),
        "noticed": dict(noticed),
    }


def _statistics_split(shards: Sequence[Shard]) -> str:
    for split in ("train", "unlabeled"):
        if any(shard.split == split for shard in shards):
            return split
    raise InputError(
        "there are neither training nor unlabelled recordings to normalise the features by; "
        "give `statistics_from` a prepared data directory"
    )


def _computed_statistics(
    split: str, shards: Sequence[Shard], work: ShardWork, run: RunShards, console: Console
) -> Statistics:
    kept = work.folder / "statistics.npz"
    if kept.exists():
        try:
            if not kept.is_file():  # whoever opens a pipe waits for its writer
                raise ValueError("not a plain file")
            with np.load(kept, allow_pickle=False) as arrays:
                if arrays["request"].item() != work.folder.name:
                    raise ValueError("of another request")
                return Statistics(arrays["mean"], arrays["std"])
        except Exception as error:
            # Every array has a CRC; zipfile, zlib and NumPy raise many types where it or what is around it is damaged.
            raise InputError(f"{kept} is damaged ({error}); remove it and give the same command again") from None
    shards = [shard for shard in shards if shard.split == split]
    _run("decoding for statistics", ShardPass(work.spool, work.is_spooled, work.examine), shards, run, console)
    moments = reduce(merge, chain.from_iterable(map(work.moments, shards)), no_frames(work.layout.features.dimensions))
    if not moments.count:
        raise _nothing_left(f"{split} split", [pair for shard in shards for pair in work.skipped(shard)], work.folder)
    statistics = feature_statistics(moments)
    with replacing(kept) as temporary:
        np.savez(temporary, mean=statistics.mean, std=statistics.std, request=np.array(work.folder.name))
    return statistics


def _run(description: str, shard_pass: ShardPass, shards: Sequence[Shard], run: RunShards, console: Console) -> None:
    """Does a pass's work on those shards that are not done yet."""
    waiting = [shard for shard in shards if not shard_pass.is_done(shard)]
    total, left = (sum(len(shard.utterances) for shard in some) for some in (shards, waiting))
    with console.task(description, total, "recordings") as task:
        task.skip(total - left)
        run(shard_pass, waiting, lambda shard: task.advance(len(shard.utterances)))


def _check_training_split(reports: dict[Shard, ShardReport], folder: Path) -> None:
    """Raises InputError if no training recording could be used or, if the corpus has none, no recording at all."""
    train = [report for shard, report in reports.items() if shard.split == "train"]
    considered = train or list(reports.values())
    if not any(report.records for report in considered):
        skipped = [pair for report in considered for pair in report.skipped]
        raise _nothing_left("train split" if train else "corpus", skipped, folder)


def _nothing_left(what: str, reasons: Sequence[Sequence[str]], folder: Path) -> InputError:
    discard(folder)
    name, reason = reasons[0]
    return InputError(
        f"none of the {len(reasons)} recordings of the {what} could be used (first: {name}: {reason}); check where the "
        "recordings lie and what they are"
    )


def _collect(reports: dict[Shard, ShardReport], finished: Path, folder: Path, layout: Layout) -> list[RecordFile]:
    """Moves the record files, but empty ones, to `finished` under TFDS's names, and writes TFDS's metadata.

    The names contain the number of files, which is known only now. A run killed in here finds some files moved already.
    """
    from emocluster_jax.records.builder import record_file_name, write_metadata

    files = []
    sizes: dict[str, list[tuple[int, int]]] = {}
    for split in SPLITS:
        shards = [(shard, report) for shard, report in reports.items() if shard.split == split and report.records]
        for index, (shard, report) in enumerate(shards):
            name = record_file_name(split, index, len(shards))
            written = folder / f"{shard.name}.array_record"
            if written.exists():
                written.rename(finished / name)
            if not (finished / name).is_file():
                raise InputError(
                    f"{finished / name} is gone, or not a plain file; remove {folder} and give the same command again"
                )
            files.append(RecordFile(name, split, report.records, report.sha256))
            sizes.setdefault(split, []).append((report.records, report.bytes))
    write_metadata(finished, layout, sizes)
    return files
