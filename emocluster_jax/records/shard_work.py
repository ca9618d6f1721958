"""What a worker does with one shard: decode it to spectrograms (or given frames), or write its records.

Both functions leave their result in a folder, under the shard's name, a JSON file last; where that file is, the shard
is done. Results depend on the shard alone, not on the worker.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Float32
from threadpoolctl import threadpool_limits

from emocluster_jax.config import AudioConfig, Features
from emocluster_jax.corpora.inputs import InputSizes
from emocluster_jax.corpora.utterance import Utterance
from emocluster_jax.errors import RecordingError
from emocluster_jax.preprocessing.audio import Condition
from emocluster_jax.preprocessing.chunks import chunk_parts, mel_chunks
from emocluster_jax.preprocessing.given_frames import read_vectors
from emocluster_jax.preprocessing.normalization import FeatureStatistics, FrameMoments, frame_moments
from emocluster_jax.preprocessing.quality import quality_of, silent_reason
from emocluster_jax.preprocessing.sources import cut_segment, read_source, reader, source_frames
from emocluster_jax.records.crashes import noting, read_crashing
from emocluster_jax.records.preparation import Layout
from emocluster_jax.records.shards import Shard
from emocluster_jax.storage.atomic_files import replacing
from emocluster_jax.storage.checksums import check_files, file_sha256
from emocluster_jax.storage.json_files import read_sealed, write_sealed

_WRITER_OPTIONS = "group_size:1,zstd:1"
"""One record a group, for random access. Overlapping chunks shrink to a sixth; higher levels only cost time."""
_SPOOL = (".mel", ".moments.npy")
"""Endings of the first pass's files: frames (of mel spectrograms mostly), and the moments of their frames."""


@dataclass(frozen=True)
class ShardReport:
    """What came of a shard: records and their bytes, seconds of speech, what was padded, what skipped and why, and of
    the others what was noticed (`Preparation.noticed`).
    """

    records: int
    bytes: int
    duration_s: float
    padded: int
    skipped: list[tuple[str, str]]
    sha256: str
    noticed: dict[str, int] = field(default_factory=dict)


def spool_shard(shard: Shard, layout: Layout, audio: AudioConfig, folder: Path) -> None:
    """First pass: decodes the recordings and keeps frames and moments in `folder`."""
    moments, entries, skipped = [], [], []
    all_frames, all_moments = (folder / f"{shard.name}{suffix}" for suffix in _SPOOL)
    with threadpool_limits(1), replacing(all_frames) as temporary, temporary.open("wb") as file:
        for row, (utterance, outcome) in enumerate(_decoded(shard, layout, audio, folder)):
            if isinstance(outcome, str):
                skipped.append((utterance.id, outcome))
                continue
            file.write(outcome.frames.tobytes())
            recording = frame_moments(outcome.frames)
            moments.append((recording.mean, recording.m2))
            entries.append((row, recording.count, outcome.duration_s, outcome.noticed))
    with replacing(all_moments) as temporary:
        np.save(temporary, np.array(moments, np.float64).reshape(-1, 2, layout.features.dimensions))
    files = {path.name: file_sha256(path) for path in (all_frames, all_moments)}
    write_sealed(_spool_file(shard, folder), {"entries": entries, "skipped": skipped, "files": files})


def spooled_moments(shard: Shard, folder: Path) -> Iterator[FrameMoments]:
    """The moments of every recording of a spooled shard, in order."""
    spool = _read_json(_spool_file(shard, folder))
    name = f"{shard.name}{_SPOOL[1]}"
    check_files(folder, {name: spool["files"][name]}, _remedy(folder))
    moments = np.load(folder / name, allow_pickle=False)
    for (_, frames, *_), (mean, m2) in zip(spool["entries"], moments, strict=True):
        yield FrameMoments(frames, mean, m2)


def spooled_reasons(shard: Shard, folder: Path) -> list[tuple[str, str]]:
    """Ids and reasons of the recordings of a spooled shard that could not be used."""
    return [(name, reason) for name, reason in _read_json(_spool_file(shard, folder))["skipped"]]


def is_spooled(shard: Shard, folder: Path) -> bool:
    """Whether the first pass is done with this shard."""
    return _spool_file(shard, folder).exists()


def write_shard(shard: Shard, layout: Layout, audio: AudioConfig, statistics: FeatureStatistics, folder: Path) -> None:
    """Second pass: writes the records, from the spool where the shard has one, and removes the spool."""
    # They take a while to load, and the first pass has no use for them.
    from array_record.python.array_record_module import ArrayRecordWriter

    from emocluster_jax.records.builder import record_serializer

    features, serialize = layout.features, record_serializer(layout)
    records = size = padded = 0
    duration_s = 0.0
    skipped = []
    noticed: Counter[str] = Counter()
    decoded_before = is_spooled(shard, folder)
    recordings = _spooled(shard, features, folder) if decoded_before else _decoded(shard, layout, audio, folder)
    with threadpool_limits(1), replacing(folder / f"{shard.name}.array_record") as temporary:
        writer = ArrayRecordWriter(str(temporary), _WRITER_OPTIONS)
        try:
            for utterance, outcome in recordings:
                vectors = outcome if isinstance(outcome, str) else _vectors(utterance, layout.inputs)
                if isinstance(outcome, str) or isinstance(vectors, str):
                    skipped.append((utterance.id, str(vectors)))
                    continue
                chunks = mel_chunks(outcome.frames, features, statistics)
                example = serialize(utterance, chunks, vectors, outcome.duration_s)
                writer.write(example)
                records += 1
                size += len(example)
                padded += len(outcome.frames) < features.chunk_frames
                duration_s += outcome.duration_s
                noticed.update(outcome.noticed)
        finally:
            writer.close()
        sha256 = file_sha256(temporary)
    report = ShardReport(records, size, duration_s, padded, skipped, sha256, dict(noticed))
    write_sealed(_report_file(shard, folder), {"report": asdict(report)})
    _spool_file(shard, folder).unlink(missing_ok=True)
    for suffix in _SPOOL:
        (folder / f"{shard.name}{suffix}").unlink(missing_ok=True)


def is_written(shard: Shard, folder: Path) -> bool:
    """Whether the second pass is done with this shard."""
    return _report_file(shard, folder).exists()


def read_report(shard: Shard, folder: Path) -> ShardReport | None:
    """What `write_shard` said of a shard, or None where it is not done with it."""
    if not is_written(shard, folder):
        return None
    report = _read_json(_report_file(shard, folder))["report"]
    return ShardReport(**{**report, "skipped": [(name, reason) for name, reason in report["skipped"]]})


def _report_file(shard: Shard, folder: Path) -> Path:
    return folder / f"{shard.name}.json"


def _spool_file(shard: Shard, folder: Path) -> Path:
    return folder / f"{shard.name}.spool.json"


class _Decoded(NamedTuple):
    """A recording's frames, its duration in seconds, and what was noticed: names of `quality.NOTICES`."""

    frames: Float[np.ndarray, "time dimensions"]
    duration_s: float
    noticed: tuple[str, ...]


_Outcome = _Decoded | str
"""What a recording became, or the reason why it became nothing."""


def _decoded(shard: Shard, layout: Layout, audio: AudioConfig, folder: Path) -> Iterator[tuple[Utterance, _Outcome]]:
    features = layout.features
    crashing = read_crashing(folder)
    path: Path | None = None
    file: Float[np.ndarray, " time *frame"] | str = ""
    condition = Condition()
    for utterance in noting(shard, folder):
        if utterance.id in crashing:
            yield utterance, crashing[utterance.id]
            continue
        # Also in the first pass, so that statistics are of the very recordings that get records.
        if isinstance(reason := _vectors(utterance, layout.inputs), str):
            yield utterance, reason
            continue
        # A file's segments follow one another, by their ids, and it is read once for all of them.
        if utterance.path != path:
            path, file, condition = utterance.path, "", Condition()  # lest two files be in memory
            file = _read(path, features, audio, condition)
        yield utterance, file if isinstance(file, str) else _outcome(file, utterance, features, condition)


def _read(
    path: Path, features: Features, audio: AudioConfig, condition: Condition
) -> Float[np.ndarray, " time *frame"] | str:
    """A file's source, or why it has none."""
    try:
        return read_source(path, features, audio, condition)
    except RecordingError as error:
        return str(error)


def _vectors(utterance: Utterance, inputs: InputSizes) -> dict[str, Float32[np.ndarray, " length"]] | str:
    """A recording's further inputs, or why one cannot be used."""
    try:
        return read_vectors(utterance.inputs, inputs)
    except RecordingError as error:
        return str(error)


def _outcome(
    file: Float[np.ndarray, " length *frame"], utterance: Utterance, features: Features, condition: Condition
) -> _Outcome:
    """What comes of a recording, which is all or a segment of what its file holds; the condition is the file's."""
    try:
        source = cut_segment(file, features, utterance.start_s, utterance.end_s)
    except RecordingError as error:
        return str(error)
    quality = quality_of(chunk_parts(reader(source), 0, len(source), features), features, condition)
    if quality.is_silent:
        return silent_reason(features)
    return _Decoded(source_frames(source, features), len(source) / features.source_rate, quality.noticed)


def _spooled(shard: Shard, features: Features, folder: Path) -> Iterator[tuple[Utterance, _Outcome]]:
    spool = _read_json(_spool_file(shard, folder))
    name = f"{shard.name}{_SPOOL[0]}"
    check_files(folder, {name: spool["files"][name]}, _remedy(folder))
    reasons = dict(spool["skipped"])
    yield from ((u, reasons[u.id]) for u in shard.utterances if u.id in reasons)
    with (folder / name).open("rb") as file:
        # Where an earlier version began, nothing was noticed.
        for row, count, duration_s, *noticed in spool["entries"]:
            frames = np.frombuffer(file.read(count * features.dimensions * 4), np.float32)
            decoded = _Decoded(frames.reshape(count, features.dimensions), duration_s, tuple(*noticed))
            yield shard.utterances[row], decoded


def _read_json(path: Path) -> Any:
    """One of the files that these functions leave, found whole."""
    return read_sealed(path, _remedy(path.parent))


def _remedy(folder: Path) -> str:
    return f"remove {folder} and give the same command again"
