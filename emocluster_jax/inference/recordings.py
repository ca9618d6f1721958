"""Many recordings, or windows of them, through one or several models.

Threads decode and compute features, mostly without Python's lock, while the device gets full batches of one shape, so
that nothing is compiled twice. Models share what they have in common: the decoded signal where their sample rates and
audio settings are equal, the spectrogram where their feature settings are, too, the chunks where their statistics are.
What is silent reaches no network.
"""

from __future__ import annotations

import importlib
import math
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from itertools import groupby, islice, pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from emocluster_jax.config import (
    BATCH_SIZE,
    WINDOW_S,
    WORKERS,
    AudioConfig,
    FeatureConfig,
    Features,
    FrontEndFeatures,
    GivenFeatures,
)
from emocluster_jax.corpora.inputs import FurtherInputs
from emocluster_jax.corpora.segments import segment_suffix
from emocluster_jax.errors import InputError, RecordingError
from emocluster_jax.inference.predictor import Prediction, Predictor
from emocluster_jax.preprocessing.audio import Condition
from emocluster_jax.preprocessing.chunks import ChunkParts, chunk_parts, frames_of_parts, mel_chunks
from emocluster_jax.preprocessing.front_ends import loaded
from emocluster_jax.preprocessing.further_inputs import InputArray, check_durations, input_arrays, read_inputs
from emocluster_jax.preprocessing.quality import Quality, quality_of, silent_reason
from emocluster_jax.preprocessing.sources import LongRecording, Read, open_source, reader, segment_bounds
from emocluster_jax.preprocessing.spectrogram import mel_filters
from emocluster_jax.records.reader import ChunkSource
from emocluster_jax.runtime.host import usable_cores
from emocluster_jax.runtime.loops import in_order

SHORTEST_WINDOW_S = 1.0
"""What is left of a recording after its last whole window is a window if it is this long, and dropped otherwise."""


class Recording(NamedTuple):
    """What to predict: a file, or a segment of one.

    Attributes:
      name: the file's in tables.
      path: where it lies.
      start_s: where the segment begins, in seconds from the file's beginning; None, or NaN, for 0.
      end_s: where it ends; None, or NaN, as pandas' NaT has for its seconds, for the file's end.
      inputs: by name, the files of its further inputs; absent where missing.
    """

    name: str
    path: Path
    start_s: float | None = None
    end_s: float | None = None
    inputs: Mapping[str, Path] = {}


class SegmentPrediction(NamedTuple):
    """What the models say of one recording, or of one window of it.

    Attributes:
      file: the recording's name.
      start_s: where the recording or window begins, in seconds from its file's beginning.
      end_s: where it ends; the file's duration where the recording says nothing else.
      is_last: whether the recording has no further windows.
      predictions: one per model, in the order of the predictors. `Predictor.silence` where all chunks are silent.
      quality: of the recording or window, as the first model takes it.
    """

    file: str
    start_s: float
    end_s: float
    is_last: bool
    predictions: tuple[Prediction, ...]
    quality: Quality


class Skipped(NamedTuple):
    """A recording that cannot be used (of a segment its name and `#start-end`), and why."""

    file: str
    reason: str


def default_batch_size(predictors: Sequence[Predictor]) -> int:
    """Recordings per batch: one on a CPU, so that activations fit its caches; enough to fill an accelerator."""
    return 1 if all(predictor.on_cpu for predictor in predictors) else 32


def _networks_at_a_time(predictors: Sequence[Predictor]) -> int:
    """One for each core of a CPU, as a network there keeps to one; accelerators queue what they are given."""
    return usable_cores() if all(predictor.on_cpu for predictor in predictors) else 2


def predict_recordings(
    predictors: Sequence[Predictor],
    recordings: Iterable[Recording],
    *,
    window_s: float | None = None,
    batch_size: int | None = None,
    workers: int | None = None,
    audio: Sequence[AudioConfig] | None = None,
) -> Iterator[SegmentPrediction | Skipped]:
    """Predicts recordings one after another, in the given order.

    A file is divided by its peak as a whole, also where segments or windows of it are predicted. Segments of one file
    that follow one another are cut out of one signal. Up to half an hour of it is held in memory (115 MB at 16 kHz,
    twice that while it is decoded), of two files for each of the `workers` at a time. Longer ones are decoded twice,
    for the peak and for the parts that chunks are made of, and again for a segment that begins before what was read
    last. So memory grows neither with the number of recordings nor with their duration. Given features are held whole,
    4 bytes per number.

    Args:
      predictors: at least one.
      recordings: files of any format, rate and number of channels, or of the features that the models were trained on,
        or segments of them; drawn as they are needed.
      window_s: None for one prediction per recording. Otherwise one for each window of this many seconds, as if it were
        a recording of its own. A shorter rest counts from `SHORTEST_WINDOW_S` on, or if it is all there is.
      batch_size: recordings or windows that go through a network at a time; None for `default_batch_size`.
      workers: threads that decode and compute features; None for one per core.
      audio: for each of the predictors how files become signals; None for `Predictor.audio`.

    Yields:
      The recordings' segments in order, and in its place each recording that cannot be used, or is silent as a whole.

    Raises:
      InputError: as of `check_extent`, or models that read different things, or a front end that is not there.
    """
    check_extent(window_s, batch_size, workers)
    batch_size = batch_size or default_batch_size(predictors)
    workers = workers or usable_cores()
    front_end = _FrontEnd(predictors, audio or [predictor.audio for predictor in predictors])
    pool = ThreadPoolExecutor(workers, thread_name_prefix="decode")
    at_a_time = _networks_at_a_time(predictors)
    networks = ThreadPoolExecutor(at_a_time, thread_name_prefix="network")
    try:
        decoded = in_order(pool, partial(front_end.segments, window_s=window_s), _of_files(recordings), ahead=workers)
        segments = (segment for file in decoded for segment in file)
        ahead = -(-at_a_time // len(predictors))
        chunked = in_order(pool, front_end.with_chunks, segments, ahead=(1 + ahead) * batch_size + workers)
        yield from _through_networks(networks, front_end, chunked, batch_size, ahead)
    finally:
        networks.shutdown(cancel_futures=True)
        pool.shutdown(cancel_futures=True)


def predict_prepared(predictor: Predictor, source: ChunkSource, positions: Sequence[int]) -> Iterator[Prediction]:
    """Predicts the recordings at these positions of a split, in their order; all batches have one shape."""
    size, threads = default_batch_size([predictor]), usable_cores()
    with ThreadPoolExecutor(threads, thread_name_prefix="read") as pool:
        recordings = in_order(pool, source.read, positions, ahead=size + threads)
        while batch := list(islice(recordings, size)):
            yield from _predict(predictor, batch, size)


def check_extent(window_s: float | None, batch_size: int | None, workers: int | None) -> None:
    """Raises InputError for a number that is out of its range: `config.WINDOW_S`, `BATCH_SIZE` and `WORKERS`."""
    if window_s is not None:
        WINDOW_S.check("`window_s`", window_s)
    if batch_size is not None:
        BATCH_SIZE.check("`batch_size`", batch_size)
    if workers is not None:
        WORKERS.check("`workers`", workers)


_Settings = tuple[Features, AudioConfig]
_Further = dict[str, InputArray]
"""A recording's further inputs, as `input_arrays` gives them."""
_Chunks = Float[np.ndarray, "C frames mel"]
_Opened = tuple[Float[np.ndarray, " time *frame"] | LongRecording, Read, Condition]
"""A recording's samples or frames, what reads parts of them, and what was noticed as it was decoded."""


class _Segment(NamedTuple):
    """A recording or a window of it, with its quality and its further inputs for each of the models' settings."""

    file: str
    start_s: float
    end_s: float
    is_last: bool
    is_whole: bool
    quality: dict[_Settings, Quality]
    further: dict[_Settings, _Further]

    @property
    def is_silent(self) -> bool:
        """Whether there is nothing for any of the networks."""
        return all(quality.is_silent for quality in self.quality.values())


_Cut = tuple[_Segment, dict[_Settings, ChunkParts]]
"""A segment, and what its chunks are made of."""
_Chunked = tuple[_Segment, tuple[_Chunks, ...]]
"""A segment, and its chunks for each distinct front end."""


class _FrontEnd:
    """What several models need of a recording, each thing computed once.

    `settings` are those of each predictor, `chunks_of` the positions of their chunks in `_Chunked`, and `inputs` the
    further inputs of all.
    """

    def __init__(self, predictors: Sequence[Predictor], audio: Sequence[AudioConfig]) -> None:
        _check_one_input([predictor.features for predictor in predictors])
        self.predictors, self.inputs = predictors, inputs_of(predictors)
        self.settings = [(predictor.features, its) for predictor, its in zip(predictors, audio, strict=True)]
        self._distinct: dict[tuple[_Settings, bytes, bytes], Predictor] = {}
        self.chunks_of: list[int] = []
        for predictor, settings in zip(predictors, self.settings, strict=True):
            key = settings, predictor.statistics.mean.tobytes(), predictor.statistics.std.tobytes()
            self._distinct.setdefault(key, predictor)
            self.chunks_of.append(list(self._distinct).index(key))
            # Imports libraries here: while several threads import, Python's parser may fail in one of them.
            if isinstance(its := predictor.features, FeatureConfig):
                importlib.import_module("emocluster_jax.preprocessing.decoding")
                mel_filters(its.sample_rate_hz, its.fft_size, its.mel_bands)
            elif isinstance(its, FrontEndFeatures):
                loaded(its)

    def segments(self, recordings: Sequence[Recording], window_s: float | None) -> Iterable[_Cut | Skipped]:
        """Recordings of one file, or their windows, once the file has been decoded to its end."""
        signals = {(features.source_rate, audio): features for features, audio in self.settings}
        decoded = {}
        try:
            for (rate, audio), features in sorted(signals.items(), key=lambda signal: signal[0][0]):
                condition = Condition()
                decoded[rate, audio] = open_source(recordings[0].path, features, audio, condition), condition
        except RecordingError as error:
            return [_skipped(recording, error) for recording in recordings]
        opened = {}
        for settings in dict.fromkeys(self.settings):
            source, condition = decoded[settings[0].source_rate, settings[1]]
            opened[settings] = source, reader(source), condition
        segments = (segment for recording in recordings for segment in self._windows(recording, opened, window_s))
        # Of one that is not in memory and has no windows, the parts are read here and now, in a thread of the pool.
        return list(segments) if window_s is None and len(recordings) == 1 else segments

    def _windows(
        self, recording: Recording, opened: dict[_Settings, _Opened], window_s: float | None
    ) -> Iterator[_Cut | Skipped]:
        (first, _), (source, _, _) = next(iter(opened.items()))
        rate, length = first.source_rate, len(source)
        try:
            segment_bounds(length, rate, recording.start_s, recording.end_s)
            whole = read_inputs(recording.inputs, self.inputs)
            check_durations(whole, self.inputs, length / rate)
        except RecordingError as error:
            yield _skipped(recording, error)
            return
        first_s = recording.start_s or 0.0
        last_s = length / rate if recording.end_s is None else recording.end_s
        count = _window_count(last_s - first_s, window_s)
        is_whole_file = window_s is None and recording.start_s is None and recording.end_s is None
        for i in range(count):
            start_s = first_s + i * window_s if window_s else first_s
            end_s = min(first_s + (i + 1) * window_s, last_s) if window_s else last_s
            parts, quality, further = {}, {}, {}
            try:
                for settings, (source, read, condition) in opened.items():
                    features, _ = settings
                    bounds = segment_bounds(len(source), features.source_rate, start_s, end_s)
                    parts[settings] = chunk_parts(read, *bounds, features)
                    quality[settings] = quality_of(parts[settings], features, condition)
                    further[settings] = input_arrays(whole, self.inputs, features, start_s, parts[settings].length)
            except RecordingError as error:
                yield _skipped(recording, error)
                return
            yield _Segment(recording.name, start_s, end_s, i == count - 1, is_whole_file, quality, further), parts

    def with_chunks(self, cut: _Cut | Skipped) -> _Chunked | Skipped:
        if isinstance(cut, Skipped):
            return cut
        segment, parts = cut
        if segment.is_whole and segment.is_silent:
            features, _ = self.settings[0]
            return Skipped(segment.file, f"{silent_reason(features)}; `window_s` predicts it part by part")
        frames = {settings: frames_of_parts(its, settings[0]) for settings, its in parts.items()}
        return segment, tuple(
            mel_chunks(frames[settings], predictor.features, predictor.statistics)
            for (settings, _, _), predictor in self._distinct.items()
        )


def _check_one_input(models: Sequence[Features]) -> None:
    """Raises InputError unless the same files can be read for all models."""
    inputs = {
        (features.dimensions, features.frames_per_second) if isinstance(features, GivenFeatures) else "audio"
        for features in models
    }
    if len(inputs) > 1:
        found = ", ".join(dict.fromkeys(features.summary for features in models))
        raise InputError(f"the models read different things ({found}); predict with one after the other")


def inputs_of(predictors: Sequence[Predictor]) -> FurtherInputs:
    """The further inputs of all models; raises InputError where two read one of different kinds."""
    inputs = dict.fromkeys(given for predictor in predictors for given in predictor.inputs)
    found = sorted(inputs, key=lambda given: given.name)
    for one, other in pairwise(found):
        if one.name == other.name:
            raise InputError(f"the models read {one} and {other}; predict with one after the other")
    return tuple(found)


def _of_files(recordings: Iterable[Recording]) -> Iterator[list[Recording]]:
    """Recordings of one file that follow one another, together; times that are NaN are None."""

    def known(seconds: float | None) -> float | None:
        return seconds if seconds == seconds else None  # `isnan` does not take integers of any size

    timed = (given._replace(start_s=known(given.start_s), end_s=known(given.end_s)) for given in recordings)
    return (list(group) for _, group in groupby(timed, key=lambda recording: recording.path))


def _skipped(recording: Recording, error: RecordingError) -> Skipped:
    return Skipped(recording.name + segment_suffix(recording.start_s, recording.end_s), str(error))


def _window_count(duration_s: float, window_s: float | None) -> int:
    if window_s is None:
        return 1
    whole = math.floor(duration_s / window_s + 1e-9)
    return max(whole + (duration_s - whole * window_s >= SHORTEST_WINDOW_S), 1)


def _through_networks(
    networks: ThreadPoolExecutor,
    front_end: _FrontEnd,
    segments: Iterator[_Chunked | Skipped],
    batch_size: int,
    ahead: int,
) -> Iterator[SegmentPrediction | Skipped]:
    """Runs the networks on full batches; while the device computes `ahead` of them, the next is put together."""
    running: deque[tuple[Sequence[_Chunked | Skipped], list[Future[list[Prediction]]]]] = deque()
    while batch := tuple(islice(segments, batch_size)):
        usable = [item for item in batch if not isinstance(item, Skipped) and not item[0].is_silent]
        predictions = []
        predictors = zip(front_end.predictors, front_end.chunks_of, front_end.settings, strict=True)
        for predictor, position, settings in predictors if usable else ():
            rows = [(chunks[position], segment.further[settings]) for segment, chunks in usable]
            predictions.append(networks.submit(_predict, predictor, rows, batch_size))
        running.append((batch, predictions))
        if len(running) > ahead:
            yield from _finished(front_end, *running.popleft())
    while running:
        yield from _finished(front_end, *running.popleft())


def _predict(predictor: Predictor, recordings: Sequence[tuple[_Chunks, _Further]], size: int) -> list[Prediction]:
    """Predicts recordings by their chunks and further inputs, in a batch of this size whatever their number."""
    first, _ = recordings[0]
    chunks = np.zeros((size, *first.shape), np.float32)
    shapes = {given.name: given.shape(predictor.features) for given in predictor.inputs}
    further = {name: np.full((size, *shape), np.nan, np.float32) for name, shape in shapes.items()}
    for row, (its_chunks, its_further) in enumerate(recordings):
        chunks[row] = its_chunks
        for name, rows in further.items():
            rows[row] = its_further[name]
    return predictor.predict_chunks(chunks.reshape(-1, *first.shape[1:]), further)[: len(recordings)]


def _finished(
    front_end: _FrontEnd, batch: Sequence[_Chunked | Skipped], by_predictor: Sequence[Future[list[Prediction]]]
) -> Iterator[SegmentPrediction | Skipped]:
    by_segment = zip(*(predictions.result() for predictions in by_predictor), strict=True)
    silence = tuple(predictor.silence for predictor in front_end.predictors)
    for item in batch:
        if isinstance(item, Skipped):
            yield item
            continue
        segment, _ = item
        predictions = silence if segment.is_silent else next(by_segment)
        quality = [segment.quality[settings] for settings in front_end.settings]
        heard = tuple(
            nothing if its_quality.is_silent else prediction
            for prediction, nothing, its_quality in zip(predictions, silence, quality, strict=True)
        )
        yield SegmentPrediction(segment.file, segment.start_s, segment.end_s, segment.is_last, heard, quality[0])
