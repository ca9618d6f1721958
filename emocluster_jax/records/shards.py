"""The pieces that a preparation is done in, and what identifies it."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from emocluster_jax.config import (
    DEFAULT_AUDIO,
    LABEL,
    SPLITS,
    AudioConfig,
    Features,
    GivenFeatures,
    check_input_names,
)
from emocluster_jax.corpora.inputs import FurtherInputs, inputs_as_json
from emocluster_jax.corpora.labels import VAD
from emocluster_jax.corpora.utterance import Utterance
from emocluster_jax.errors import InputError
from emocluster_jax.records.folds import FoldsRequest

_SMALLEST, _LARGEST, _SHARDS = 16, 256, 16
"""A split is cut into about 16 shards, so that many cores have work, of 16 to 256 recordings."""
_MOST_SHARDS = 256
"""Never into more, however large they get: a random-access reader keeps all of a split's files open."""
_REQUEST_VERSION = 1
_BEGINNING_BYTES = 4096
"""Of a file of given features: its header and some frames."""
_INPUT_BYTES = 1 << 20
"""Of a file of a further input: more than any usable vector has, and many frames."""


@dataclass(frozen=True)
class Shard:
    """Recordings that one worker decodes and writes into one file."""

    split: str
    index: int
    utterances: tuple[Utterance, ...]

    @property
    def name(self) -> str:
        return f"{self.split}-{self.index:05d}"


def plan_shards(utterances: Sequence[Utterance]) -> list[Shard]:
    """Cuts every split, sorted by id, into shards; the cut depends on nothing but the number of its recordings."""
    shards = []
    for split in SPLITS:
        rows = sorted((u for u in utterances if u.split == split), key=lambda u: u.id)
        size = min(max(math.ceil(len(rows) / _SHARDS), _SMALLEST), _LARGEST)
        size = max(size, math.ceil(len(rows) / _MOST_SHARDS))
        starts = range(0, len(rows), size)
        shards += [Shard(split, i, tuple(rows[start : start + size])) for i, start in enumerate(starts)]
    return shards


def check_utterances(utterances: Sequence[Utterance]) -> None:
    """Raises InputError for no rows, an unknown split, an id twice or not in UTF-8, and impossible inputs or labels."""
    if not utterances:
        raise InputError("there are no recordings to prepare; check the corpus folder")
    seen = set()
    for utterance in utterances:
        if utterance.split not in SPLITS:
            raise InputError(f"{utterance.id}: unknown split {utterance.split!r}; expected one of {', '.join(SPLITS)}")
        if utterance.id in seen:
            raise InputError(f"two recordings have the id {utterance.id!r}; ids must be unique within a corpus")
        seen.add(utterance.id)
        check_input_names(utterance.inputs, utterance.id)
        for name, label in utterance.labels.items():
            if not (isinstance(label, float) and math.isnan(label)):
                LABEL.check(f"{utterance.id}: {name}", label)
        try:
            utterance.id.encode()
        except UnicodeEncodeError:
            raise InputError(f"the file name {utterance.id!r} is not UTF-8; rename the file") from None


def request_sha256(
    utterances: Sequence[Utterance],
    features: Features,
    statistics_from: str,
    folds: FoldsRequest | None = None,
    audio: AudioConfig = DEFAULT_AUDIO,
    labels: Sequence[str] = VAD,
    inputs: FurtherInputs = (),
) -> str:
    """SHA-256 of everything that the records depend on: rows, settings, and the sizes of the recordings' files.

    The corpus's folder is not part of it: a moved corpus is the same one. Files of given features have the same sizes
    for every layer, so their beginnings are part of it, as are those of further inputs: of vectors all of the file.
    """
    # Of an encoder the checksum counts, and not where it lies.
    settings = {field.name: getattr(features, field.name) for field in fields(features) if field.compare}
    request = [_REQUEST_VERSION, settings, statistics_from]
    # With the defaults it is the same as in versions without these settings.
    if tuple(labels) != VAD:
        request.append({"labels": list(labels)})
    if inputs:
        request.append({"inputs": [[name, value] for name, value in inputs_as_json(inputs).items()]})
    if folds is not None:
        request.append({"folds": folds})
    if audio != DEFAULT_AUDIO:
        request.append({"audio": asdict(audio)})
    of_frames = [given.name for given in inputs if given.frames_per_second is not None]
    digest = hashlib.sha256(json.dumps(request).encode())
    for u in sorted(utterances, key=lambda u: (u.split, u.id)):
        row = [u.id, u.split, u.speaker, u.gender, [float(u.labels.get(name, math.nan)).hex() for name in labels]]
        row.append(_size(u.path))
        if isinstance(features, GivenFeatures):
            row.append(_beginning(u.path, _BEGINNING_BYTES))
        if u.start_s is not None or u.end_s is not None:
            row.append({"segment": [u.start_s, u.end_s]})
        if u.inputs:
            row.append({"inputs": {name: _beginning(u.inputs[name], _INPUT_BYTES) for name in sorted(u.inputs)}})
            row += [_size(u.inputs[name]) for name in of_frames if name in u.inputs]
        digest.update(json.dumps(row).encode())
    return digest.hexdigest()


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return -1


def _beginning(path: Path, size: int) -> str:
    """SHA-256 of a file's first bytes; "" if it is not a plain file, or cannot be read."""
    try:
        if not path.is_file():  # whoever opens a pipe waits for its writer
            return ""
        with path.open("rb") as file:
            return hashlib.sha256(file.read(size)).hexdigest()
    except (OSError, ValueError):
        return ""
