"""What a worker does with one shard: decode it to spectrograms (or given frames), or write its records."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float
from threadpoolctl import threadpool_limits

from emocluster_jax.config import AudioConfig, Features, FrontEndFeatures
from emocluster_jax.corpora.utterance import Utterance
from emocluster_jax.errors import RecordingError
from emocluster_jax.preprocessing.audio import Condition
from emocluster_jax.preprocessing.chunks import chunk_parts, mel_chunks
from emocluster_jax.preprocessing.front_ends import loaded
from emocluster_jax.preprocessing.further_inputs import InputArray, check_durations, input_arrays, read_inputs
from emocluster_jax.preprocessing.normalization import FrameMoments, Statistics, frame_moments
from emocluster_jax.preprocessing.quality import quality_of, silent_reason
from emocluster_jax.preprocessing.sources import cut_segment, read_source, reader, source_frames
from emocluster_jax.records.crashes import Examined, examine, noting, read_crashing
from emocluster_jax.records.preparation import Layout
from emocluster_jax.records.shards import Shard
from emocluster_jax.storage.atomic_files import replacing
from emocluster_jax.storage.checksums import check_files, file_sha256
from emocluster_jax.storage.json_files import read_sealed, write_sealed

_WRITER_OPTIONS = "group_size:1,zstd:1"
"""One record a group, for random access. Overlapping chunks shrink to a sixth; higher levels only cost time."""
_FRAMES, _MOMENTS, _SPOOLED = ".mel", ".moments.npy", ".spool.json"
"""Endings of the first pass's files: frames (of mel spectrograms mostly), their moments, and a list of both."""
_REPORT = ".json"


@dataclass
class ShardReport:
    """What became of a shard."""

    records: int = 0
    bytes: int = 0  # of its records
    duration_s: float = 0.0
    padded: int = 0  # how many recordings are shorter than a chunk
    skipped: list[Sequence[str]] = field(default_factory=list)  # ids, each with the reason
    sha256: str = ""
    noticed: dict[str, int] = field(default_factory=dict)  # as `Preparation.noticed`


class _Decoded(NamedTuple):
    frames: Float[np.ndarray, "time dimensions"]
    inputs: dict[str, InputArray]
    duration_s: float
    noticed: Sequence[str]  # names of `quality.NOTICES`


_Outcome = _Decoded | str
"""What a recording became, or the reason why it cannot be used."""


@dataclass(frozen=True)
class ShardWork:
    """Both passes over the shards; workers get pickled copies.

    A pass leaves its results for a shard in `folder`, under the shard's name, a JSON file last: once that exists, the
    shard is done. Results depend on the shard alone, not on the worker.
    """

    layout: Layout
    audio: AudioConfig
    folder: Path

    def spool(self, shard: Shard) -> None:
        """First pass: decodes the recordings and keeps their frames and moments."""
        moments, entries, skipped = [], [], []
        all_frames, all_moments = self._path(shard, _FRAMES), self._path(shard, _MOMENTS)
        with _one_thread(self.layout.features), replacing(all_frames) as temporary, temporary.open("wb") as file:
            for row, (utterance, outcome) in enumerate(self._decoded(shard)):
                if isinstance(outcome, str):
                    skipped.append((utterance.id, outcome))
                    continue
                file.write(outcome.frames.tobytes())
                recording = frame_moments(outcome.frames)
                moments.append((recording.mean, recording.m2))
                entries.append((row, recording.count, outcome.duration_s, outcome.noticed))
        with replacing(all_moments) as temporary:
            np.save(temporary, np.array(moments, np.float64).reshape(-1, 2, self.layout.features.dimensions))
        files = {path.name: file_sha256(path) for path in (all_frames, all_moments)}
        write_sealed(self._path(shard, _SPOOLED), {"entries": entries, "skipped": skipped, "files": files})

    def is_spooled(self, shard: Shard) -> bool:
        return self._path(shard, _SPOOLED).exists()

    def moments(self, shard: Shard) -> Iterator[FrameMoments]:
        """The moments of every recording of a spooled shard, in order."""
        spool, path = self._spool_with(shard, _MOMENTS)
        moments = np.load(path, allow_pickle=False)
        for (_, frames, *_), (mean, m2) in zip(spool["entries"], moments, strict=True):
            yield FrameMoments(frames, mean, m2)

    def skipped(self, shard: Shard) -> list[Sequence[str]]:
        """The recordings of a spooled shard that cannot be used, each with its reason."""
        return self._read(shard, _SPOOLED)["skipped"]

    def write(self, shard: Shard, statistics: Statistics) -> None:
        """Second pass: writes the records, from the spool if the shard has one, and removes the spool."""
        # They take a while to load, and the first pass has no use for them.
        from array_record.python.array_record_module import ArrayRecordWriter

        from emocluster_jax.records.builder import record_serializer

        features, serialize = self.layout.features, record_serializer(self.layout)
        report, noticed = ShardReport(), Counter[str]()
        recordings = self._spooled(shard) if self.is_spooled(shard) else self._decoded(shard)
        with _one_thread(self.layout.features), replacing(self._path(shard, ".array_record")) as temporary:
            writer = ArrayRecordWriter(str(temporary), _WRITER_OPTIONS)
            try:
                for utterance, outcome in recordings:
                    if isinstance(outcome, str):
                        report.skipped.append((utterance.id, outcome))
                        continue
                    chunks = mel_chunks(outcome.frames, features, statistics)
                    example = serialize(utterance, chunks, outcome.inputs, outcome.duration_s)
                    writer.write(example)
                    report.records += 1
                    report.bytes += len(example)
                    report.padded += len(outcome.frames) < features.chunk_frames
                    report.duration_s += outcome.duration_s
                    noticed.update(outcome.noticed)
            finally:
                writer.close()
            report.sha256, report.noticed = file_sha256(temporary), dict(noticed)
        write_sealed(self._path(shard, _REPORT), {"report": vars(report)})
        for suffix in (_SPOOLED, _FRAMES, _MOMENTS):
            self._path(shard, suffix).unlink(missing_ok=True)

    def is_written(self, shard: Shard) -> bool:
        return self._path(shard, _REPORT).exists()

    def report(self, shard: Shard) -> ShardReport:
        return ShardReport(**self._read(shard, _REPORT)["report"])

    def examine(self, shards: Sequence[Shard]) -> Examined:
        return examine(shards, self.layout.features, self.audio, self.folder)

    def _decoded(self, shard: Shard) -> Iterator[tuple[Utterance, _Outcome]]:
        crashing = read_crashing(self.folder)
        # A file's segments follow one another, by their ids, and it is read once for all of them.
        for path, utterances in groupby(noting(shard, self.folder), lambda utterance: utterance.path):
            condition = Condition()
            file: Float[np.ndarray, " time *frame"] | str | None = None
            for utterance in utterances:
                try:
                    if utterance.id in crashing:
                        raise RecordingError(crashing[utterance.id])
                    # Also in the first pass, so that statistics are of the very recordings that get records.
                    inputs = read_inputs(utterance.inputs, self.layout.inputs)
                    if file is None:
                        file = self._source(path, condition)
                    outcome = self._usable(file, utterance, inputs, condition)
                except RecordingError as error:
                    outcome = str(error)
                yield utterance, outcome

    def _source(self, path: Path, condition: Condition) -> Float[np.ndarray, " time *frame"] | str:
        """A file's source, or why it has none."""
        try:
            return read_source(path, self.layout.features, self.audio, condition)
        except RecordingError as error:
            return str(error)

    def _usable(
        self,
        file: Float[np.ndarray, " time *frame"] | str,
        utterance: Utterance,
        inputs: dict[str, InputArray],
        condition: Condition,
    ) -> _Decoded:
        """What becomes of a recording, which is all of its file or a segment; inputs and condition are the file's."""
        if isinstance(file, str):
            raise RecordingError(file)
        features = self.layout.features
        source = cut_segment(file, features, utterance.start_s, utterance.end_s)
        quality = quality_of(chunk_parts(reader(source), 0, len(source), features), features, condition)
        if quality.is_silent:
            raise RecordingError(silent_reason(features))
        check_durations(inputs, self.layout.inputs, len(file) / features.source_rate)
        arrays = self._cut_inputs(inputs, utterance, len(source))
        return _Decoded(source_frames(source, features), arrays, len(source) / features.source_rate, quality.noticed)

    def _cut_inputs(self, whole: dict[str, InputArray], utterance: Utterance, length: int) -> dict[str, InputArray]:
        """What a recording of this length has of its file's further inputs."""
        return input_arrays(whole, self.layout.inputs, self.layout.features, utterance.start_s or 0.0, length)

    def _spooled(self, shard: Shard) -> Iterator[tuple[Utterance, _Outcome]]:
        spool, path = self._spool_with(shard, _FRAMES)
        features, reasons = self.layout.features, dict(spool["skipped"])
        yield from ((u, reasons[u.id]) for u in shard.utterances if u.id in reasons)
        with path.open("rb") as file:
            # Where an earlier version began, nothing was noticed.
            for row, count, duration_s, *noticed in spool["entries"]:
                frames = np.frombuffer(file.read(count * features.dimensions * 4), np.float32).reshape(count, -1)
                utterance = shard.utterances[row]
                try:
                    length = round(duration_s * features.source_rate)
                    arrays = self._cut_inputs(read_inputs(utterance.inputs, self.layout.inputs), utterance, length)
                    outcome = _Decoded(frames, arrays, duration_s, *noticed or [()])
                except RecordingError as error:
                    outcome = str(error)
                yield utterance, outcome

    def _path(self, shard: Shard, suffix: str) -> Path:
        return self.folder / f"{shard.name}{suffix}"

    def _read(self, shard: Shard, suffix: str) -> Any:
        return read_sealed(self._path(shard, suffix), self._remedy)

    def _spool_with(self, shard: Shard, suffix: str) -> tuple[Any, Path]:
        """A spooled shard's list, and one of the files in it, found whole."""
        spool, path = self._read(shard, _SPOOLED), self._path(shard, suffix)
        check_files(self.folder, {path.name: spool["files"][path.name]}, self._remedy)
        return spool, path

    @property
    def _remedy(self) -> str:
        return f"remove {self.folder} and give the same command again"


def _one_thread(features: Features) -> threadpool_limits:
    """In this context libraries compute on one thread: workers are many, and other numbers of threads round anew."""
    if isinstance(features, FrontEndFeatures):
        loaded(features)  # what is loaded later would not be limited
    return threadpool_limits(1)
