"""Preparation compared with a plain librosa loop, and the peak memory of preparation and prediction.

Memory should not grow with the number or length of recordings; an eighth of the network's width shows that as well.
"""

from __future__ import annotations

import tempfile
from functools import partial
from pathlib import Path

from emocluster_jax.benchmark.cases import Case, Device, Prepared, ours, peer
from emocluster_jax.benchmark.made_data import temporary_long_recording, temporary_recordings
from emocluster_jax.benchmark.worker import resident_peak_bytes
from emocluster_jax.config import FeatureConfig
from emocluster_jax.runtime.host import usable_cores

_SECONDS = 2.8
_WINDOW_S = 10.0


def prepare_cases(device: Device, quick: bool) -> list[Case]:
    """One case: seconds per recording. The peer, which keeps one core busy, gets fewer of them."""
    own, theirs = (
        {"recordings": recordings, "seconds": _SECONDS} for recordings in ((4, 2) if quick else (8_000, 400))
    )
    librosa = peer("librosa, one core", "recordings:features", theirs)
    name = f"a recording of {_SECONDS} s, 48 kHz stereo"
    return [Case("prepare", name, ours(records, own, keeps_memory=False), (librosa,))]


def memory_cases(device: Device, quick: bool) -> list[Case]:
    """Preparation of many recordings; prediction of few and of many recordings, of an hour and of ten."""
    prepared, few, many = (4, 2, 6) if quick else (20_000, 1_000, 10_000)
    short, long = (0.05, 0.1) if quick else (1, 10)
    work = [
        (f"{prepared:,} recordings of {_SECONDS} s prepared", records, {"recordings": prepared, "seconds": _SECONDS}),
        *((f"{count:,} recordings of 1 s predicted", short_recordings, {"recordings": count}) for count in (few, many)),
        *(
            (f"{hours:g} h predicted {how}", long_recording, {"hours": hours, "window_s": window_s})
            for window_s, how in ((_WINDOW_S, f"in windows of {_WINDOW_S:g} s"), (None, "in one row"))
            for hours in (short, long)
        ),
    ]
    return [
        Case("memory", name, ours(function, arguments, keeps_memory=False), once=True)
        for name, function, arguments in work
    ]


def records(recordings: int, seconds: float) -> Prepared:
    """A training split of this many rows, prepared on all cores from the beginning each time."""
    from emocluster_jax.console import Console
    from emocluster_jax.corpora.utterance import Utterance
    from emocluster_jax.records.writer import prepare

    paths, folder = temporary_recordings(recordings, seconds)
    rows = [Utterance(f"{i:06d}", path, "train") for i, path in enumerate(paths)]
    cores = usable_cores()

    def repeat() -> dict[str, float]:
        with tempfile.TemporaryDirectory() as target:
            prepare(rows, Path(target) / "records", FeatureConfig(), "random", folder.name, cores, Console(quiet=True))
        return {"cores": cores}

    peak_bytes = partial(resident_peak_bytes, cores)
    audio_seconds = recordings * seconds
    return Prepared(repeat, recordings, audio_seconds=audio_seconds, peak_bytes=peak_bytes, close=folder.cleanup)


def short_recordings(recordings: int) -> Prepared:
    """Recordings of 1 s, from a folder to the rows of a table."""
    return _predicted(*temporary_recordings(recordings, 1.0))


def long_recording(hours: float, window_s: float | None) -> Prepared:
    """One recording, in windows or as a whole."""
    path, folder = temporary_long_recording(hours)
    return _predicted([path], folder, window_s)


def _predicted(paths: list[Path], folder: tempfile.TemporaryDirectory[str], window_s: float | None = None) -> Prepared:
    # The memory of preparation is measured without JAX.
    from emocluster_jax.benchmark.made_models import drawn_models
    from emocluster_jax.inference.predictor import Predictor
    from emocluster_jax.inference.recordings import Recording, SegmentPrediction, predict_recordings

    recordings = [Recording(path.name, path) for path in paths]
    predictors = [Predictor(model) for model in drawn_models(width_multiplier=1 / 8)[:1]]

    def repeat() -> dict[str, float]:
        results = predict_recordings(predictors, recordings, window_s=window_s)
        return {"rows": sum(isinstance(result, SegmentPrediction) for result in results)}

    return Prepared(repeat, len(paths), peak_bytes=resident_peak_bytes, close=folder.cleanup)
