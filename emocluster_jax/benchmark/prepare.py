"""From audio files to records, on all cores, beside a plain librosa loop on one."""

from __future__ import annotations

import tempfile
import time
from functools import partial
from pathlib import Path

from emocluster_jax.benchmark.cases import Case, Contender, Device, Prepared
from emocluster_jax.benchmark.resident import resident_peak_bytes
from emocluster_jax.config import FeatureConfig
from emocluster_jax.runtime.cores import usable_cores


def cases(device: Device, quick: bool) -> list[Case]:
    """One case: seconds a recording. The peer, which keeps one core busy, does fewer of them."""
    work = {"seconds": 2.8}
    peer = "emocluster_jax.benchmark.peers.librosa_features:features"
    return [
        Case(
            "prepare",
            "a recording of 2.8 s, 48 kHz stereo",
            Contender("emocluster_jax", f"{__name__}:records", {**work, "recordings": 4 if quick else 8_000}),
            (Contender("librosa, one core", peer, {**work, "recordings": 2 if quick else 400}),),
        )
    ]


def records(recordings: int, seconds: float) -> Prepared:
    """This project's side: a training split of `recordings` rows, each time from the beginning."""
    from emocluster_jax.benchmark.recordings import write_recordings
    from emocluster_jax.console import Console
    from emocluster_jax.corpora.utterance import Utterance
    from emocluster_jax.records.writer import prepare

    folder = tempfile.TemporaryDirectory()
    paths = write_recordings(Path(folder.name), recordings, seconds)
    rows = [Utterance(f"{i:06d}", path, "train") for i, path in enumerate(paths)]
    cores = usable_cores()

    def repeat() -> dict[str, float]:
        started = time.perf_counter()
        with tempfile.TemporaryDirectory() as target:
            prepare(rows, Path(target) / "records", FeatureConfig(), "random", folder.name, cores, Console(quiet=True))
        return {"times real time": recordings * seconds / (time.perf_counter() - started), "cores": cores}

    return Prepared(repeat, recordings, peak_bytes=partial(resident_peak_bytes, cores), close=folder.cleanup)
