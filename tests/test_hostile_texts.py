"""Damaged and absurd CSV and JSON: each is read, or refused with an InputError of one line that names the file."""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from emocluster_jax.config import FeatureConfig, TrainConfig
from emocluster_jax.corpora import manifest
from emocluster_jax.errors import InputError
from emocluster_jax.inference.model_directory import read_model, save_model
from emocluster_jax.records.reader import open_data
from emocluster_jax.storage.json_files import sealed
from emocluster_jax.training.metrics_log import read_metrics
from emocluster_jax.training.workdir import claim, read_run
from small_models import small_model
from small_records import write_records

FEATURES = FeatureConfig(mel_bands=4, chunk_frames=2, chunks_per_utterance=2)


def read_data(folder: Path) -> None:
    assert len(open_data(folder).read("train")) == 8


@dataclass(frozen=True)
class Kind:
    """A file, what writes it, and what reads it; both take its folder."""

    name: str
    write: Callable[[Path], None]
    read: Callable[[Path], object]

    def seal(self, folder: Path, values: Any) -> None:
        """Writes the file with other values, and checksums that fit them."""
        if self.name == "metrics.jsonl":
            (folder / self.name).write_text(json.dumps(values) + "\n")
        else:
            (folder / self.name).write_text(json.dumps(sealed(values)))


def _write_data(folder: Path) -> None:
    chunks = np.zeros((8, 2, 2, 4), np.float16)
    write_records(folder, FEATURES, {"train": (chunks, np.ones((8, 3), np.float32))})


def _write_run(folder: Path) -> None:
    folder.mkdir()
    claim(folder, TrainConfig(), "fingerprint", resume=False)


def _write_metrics(folder: Path) -> None:
    folder.mkdir()
    (folder / "metrics.jsonl").write_text('{"epoch": 1, "validation_ccc": {"arousal": 0.5}}\n')


KINDS = {
    kind.name: kind
    for kind in (
        Kind("model.json", lambda folder: save_model(folder, small_model()), read_model),
        Kind("preparation.json", _write_data, read_data),
        Kind("run.json", _write_run, read_run),
        Kind("metrics.jsonl", _write_metrics, lambda folder: read_metrics(folder / "metrics.jsonl")),
    )
}


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A folder of each kind, whole."""
    folder = tmp_path_factory.mktemp("originals")
    for name, kind in KINDS.items():
        kind.write(folder / name)
        kind.read(folder / name)
    return {name: folder / name for name in KINDS}


def complaint(kind: Kind, folder: Path) -> str | None:
    """What the reader says of the file; None where it takes it. Any other exception is a defect, and passes through."""
    try:
        kind.read(folder)
    except InputError as error:
        assert str(error).isprintable()
        return str(error)
    return None


def no_json(whole: bytes) -> dict[str, bytes]:
    """Contents that are no JSON object of any use."""
    return {
        "empty": b"",
        "blank": b" \n\n",
        "null": b"null",
        "number": b"17",
        "text": b'"model"',
        "list": b"[]",
        "empty object": b"{}",
        "not a number": b"NaN",
        "long number": b"9" * 10_000,
        "nested lists": b"[" * 200_000,
        "nested objects": b'{"a":' * 200_000,
        "nested inside": whole.rstrip()[:-1] + b', "x": ' + b"[" * 200_000 + b"]" * 200_000 + b"}",
        "no utf-8": b"\xff\xfe\x00{}",
        "utf-16": whole.decode().encode("utf-16"),
        "null characters": whole.replace(b'"', b'"\0'),
        "half": whole[: len(whole) // 2],
        "all but the end": whole.rstrip()[:-1],
        "more than all": whole.rstrip() + b"}",
        "two": whole.rstrip() * 2,
        "zip": b"PK\x03\x04" + bytes(100),
        "pickle": b"\x80\x04\x95\x1c\0\0\0\0\0\0\0\x8c\x05posix\x94\x8c\x06system\x94\x93\x94.",
    }


@pytest.mark.parametrize("name", KINDS)
def test_what_is_no_json_object_is_refused(originals: dict[str, Path], tmp_path: Path, name: str) -> None:
    folder = Path(shutil.copytree(originals[name], tmp_path / "copy"))
    for content in no_json((folder / name).read_bytes()).values():
        # A line of metrics ends by its line break; one without is what a kill left of it.
        (folder / name).write_bytes(content + b"\n" * (name == "metrics.jsonl"))
        said = complaint(KINDS[name], folder)
        if name == "metrics.jsonl" and not content.strip():
            assert said is None or name in said  # nothing yet, or a blank line
        else:
            assert said is not None and name in said, content[:80]


ABSURD = (None, True, -1, 0, 10**400, 10**15, 1e308, "x", "../../x", [], {}, [[[]]])


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place in a JSON value; of a list the first item alone."""
    if path:
        yield path
    if isinstance(value, dict):
        for key, item in value.items():
            yield from places(item, (*path, key))
    elif isinstance(value, list) and value:
        yield from places(value[0], (*path, 0))


@pytest.mark.parametrize("name", KINDS)
def test_absurd_values_are_refused_or_harmless(originals: dict[str, Path], tmp_path: Path, name: str) -> None:
    """Wrong types, negative and giant numbers in any place; removed entries."""
    folder = Path(shutil.copytree(originals[name], tmp_path / "copy"))
    whole = json.loads((folder / name).read_text())
    random = np.random.default_rng(0)
    said = []
    for path in places(whole):
        for i in random.choice(len(ABSURD) + 1, 2, replace=False):
            values = copy.deepcopy(whole)
            inner = values
            for key in path[:-1]:
                inner = inner[key]
            if i == len(ABSURD):
                del inner[path[-1]]
            else:
                inner[path[-1]] = ABSURD[i]
            KINDS[name].seal(folder, values)
            said.append(complaint(KINDS[name], folder))
    assert all(name in text or folder.name in text for text in said if text is not None)
    assert any(text is not None for text in said)


MANIFESTS = {
    "nothing": b"",
    "blank lines": b"\n\n \n",
    "a byte order mark": b"\xef\xbb\xbf",
    "a header alone": b"file,arousal\n",
    "no known column": b"a,b\n1,2\n",
    "names twice": b"file,file,arousal\na.wav,a.wav,1\n",
    "a thousand columns": b"," * 1_000 + b"\n" + b"," * 1_000 + b"x\n",
    "too few fields": b"file,split,arousal\na.wav,train\n",
    "too many fields": b"file,split,arousal\na.wav,train,1,2\n",
    "an open quote": b'file,split,arousal\n"a.wav,train,1\n',
    "a quote in a field": b'file,split,arousal\n"a"b.wav,train,1\n',
    "a quoted header": b'"file,split,arousal\na.wav,train,1\n',
    "a giant field": b"file,split,arousal\n" + b"a" * 200_000 + b",train,1\n",
    "null characters": b"file,split,arousal\na\0.wav,train,1\n",
    "utf-16 without a mark": "file,split,arousal\na.wav,train,1\n".encode("utf-16-le"),
    "half of utf-16": "file,split,arousal\na.wav,train,1\n".encode("utf-16")[:-1],
    "latin-1": "file,split,arousal\né.wav,train,1\n".encode("latin-1"),
    "a zip": b"PK\x03\x04" + bytes(range(256)),
    "a spreadsheet": b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(500),
    "json": b'{"file": "a.wav", "arousal": 1}',
    "html": b"<!DOCTYPE html>\n<html><body>404</body></html>\n",
    "no such split": b"file,split,arousal\na.wav,\x1b[31m,1\n",
    "no number": b"file,split,arousal\na.wav,train,high\n",
    "infinity": b"file,split,arousal\na.wav,train,inf\n",
    "beyond float64": b"file,split,arousal\na.wav,train,1e999\n",
    "a long number": b"file,split,arousal\na.wav,train," + b"9" * 5_000 + b"\n",
    "no name": b"file,split,arousal\n,train,1\n",
    "a name twice": b'file,split,arousal\na.wav,train,1\n"./a.wav",train,1\n',
    "a missing recording": b"file,split,arousal\ngone.wav,train,1\n",
    "a line break in a missing name": b'file,split,arousal\n"go\nne\x1b[2J.wav",train,1\n',
    "a name too long": b"file,split,arousal\n" + b"a" * 5_000 + b".wav,train,1\n",
    "a folder": b"file,split,arousal\n.,train,1\n",
    "too few speakers": b"file,speaker,arousal\na.wav,s,1\nb.wav,s,1\n",
}


@pytest.mark.parametrize("content", MANIFESTS.values(), ids=MANIFESTS)
def test_manifests_that_are_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.wav").touch()
    (tmp_path / "manifest.csv").write_bytes(content)
    with pytest.raises(InputError) as error:
        manifest.read(tmp_path)
    assert "manifest.csv" in str(error.value)
    assert str(error.value).isprintable()
