"""From audio files to records, on all cores, compared with a plain librosa loop on one."""

from __future__ import annotations

import tempfile
from functools import partial
from pathlib import Path

from emocluster_jax.benchmark.cases import Case, Contender, Device, Prepared, ours
from emocluster_jax.benchmark.made_data import temporary_recordings
from emocluster_jax.benchmark.worker import resident_peak_bytes
from emocluster_jax.config import FeatureConfig
from emocluster_jax.runtime.host import usable_cores


def cases(device: Device, quick: bool) -> list[Case]:
    """One case: seconds per recording. The peer, which keeps one core busy, gets fewer of them."""
    work = {"seconds": 2.8}
    peer = "emocluster_jax.benchmark.peers.librosa_features:features"
    return [
        Case(
            "prepare",
            "a recording of 2.8 s, 48 kHz stereo",
            ours(records, {**work, "recordings": 4 if quick else 8_000}, keeps_memory=False),
            (Contender("librosa, one core", peer, {**work, "recordings": 2 if quick else 400}),),
        )
    ]


def records(recordings: int, seconds: float) -> Prepared:
    """This project's side: a training split of this many rows, prepared from the beginning each time."""
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

    return Prepared(
        repeat,
        recordings,
        audio_seconds=recordings * seconds,
        peak_bytes=partial(resident_peak_bytes, cores),
        close=folder.cleanup,
    )
