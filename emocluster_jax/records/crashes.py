"""Recordings that end the process which decodes them: found by decoding them alone, and left out.

A worker notes which recording it decodes. When it dies, so do the others of its pool, and each leaves a note.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

from emocluster_jax.config import AudioConfig, Features, features_from_dict
from emocluster_jax.corpora.utterance import Utterance
from emocluster_jax.errors import InputError, RecordingError
from emocluster_jax.preprocessing.sources import read_source, source_frames
from emocluster_jax.records.shards import Shard
from emocluster_jax.runtime.child_processes import end_with_parent, run_child
from emocluster_jax.settings import from_dict
from emocluster_jax.storage.json_files import read_sealed, write_sealed

_CRASHING = "crashing.json"
_LONGEST_NOTE = 20
_KILLED = (signal.SIGKILL, signal.SIGTERM)
"""Signals from outside, as from the system when memory is short: the recording need not be at fault."""


class Examined(NamedTuple):
    """The ids of recordings that were being decoded when a process died."""

    crashing: list[str]  # those that end a process again, with all segments of their files in the shard
    sound: list[str]  # those that can be decoded


def noting(shard: Shard, folder: Path) -> Iterator[Utterance]:
    """The shard's recordings; while one is worked on, and after a crash, a file in `folder` names it."""
    note = _note(shard, folder)
    try:
        with note.open("wb", buffering=0) as file:
            for row, utterance in enumerate(shard.utterances):
                file.seek(0)
                file.write(b"%d" % row)
                yield utterance
    finally:
        note.unlink(missing_ok=True)


def examine(shards: Sequence[Shard], features: Features, audio: AudioConfig, folder: Path) -> Examined:
    """Decodes the recordings in these shards' notes, each in a process of its own, and keeps which crash it; InputError
    that names the recording if such a process was killed from outside."""
    crashing, sound = {}, []
    for shard in shards:
        utterance = _noted(shard, folder)
        if utterance is None:
            continue
        ended_by = _signal_of_decoding(utterance.path, features, audio)
        if ended_by is None:
            sound.append(utterance.id)
        elif ended_by in _KILLED:
            raise InputError(
                f"the process that decoded {utterance.id!r} was killed ({ended_by.name}), maybe for want of memory; "
                "remove or cut that recording, or give the same command where there is more memory"
            )
        else:
            of_file = (u.id for u in shard.utterances if u.path == utterance.path)
            crashing |= dict.fromkeys(of_file, f"its decoder crashes ({ended_by.name})")
    if crashing:
        write_sealed(folder / _CRASHING, {"crashing": read_crashing(folder) | crashing})
    return Examined(list(crashing), sound)


def read_crashing(folder: Path) -> dict[str, str]:
    """The recordings that `examine` found, by id, with the reason for which they are left out."""
    try:
        return read_sealed(folder / _CRASHING, f"remove {folder} and give the same command again")["crashing"]
    except FileNotFoundError:
        return {}


def _note(shard: Shard, folder: Path) -> Path:
    return folder / f"{shard.name}.decoding"


def _noted(shard: Shard, folder: Path) -> Utterance | None:
    note = _note(shard, folder)
    if not note.is_file():
        return None
    with note.open("rb") as file:
        row = file.read(_LONGEST_NOTE)
    # A note that is damaged names none: what crashed crashes again.
    return shard.utterances[int(row)] if row.isdigit() and int(row) < len(shard.utterances) else None


def _signal_of_decoding(path: Path, features: Features, audio: AudioConfig) -> signal.Signals | None:
    # Not by `multiprocessing`, which would import the whole command once more. A session of its own: Ctrl-C is for us.
    modules = [os.environ.get("PYTHONPATH", ""), *sys.path]
    status = run_child(
        [sys.executable, "-m", __name__, path, *(json.dumps(asdict(settings)) for settings in (features, audio))],
        environment=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, modules))},
        output=subprocess.DEVNULL,
        own_session=True,
    )
    return signal.Signals(-status) if status < 0 else None


if __name__ == "__main__":
    end_with_parent()
    _features = features_from_dict(json.loads(sys.argv[2]), "arguments")
    with suppress(RecordingError):
        _audio = from_dict(AudioConfig, json.loads(sys.argv[3]), "arguments")
        source_frames(read_source(Path(sys.argv[1]), _features, _audio), _features)
