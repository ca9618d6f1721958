"""What the reliability tests share: the worker that runs commands, recordings, and records to train on."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile

from emocluster_jax.inference.model_directory import save_model
from reliability.lives import Lives, living
from reliability.runs import Undisturbed, prepare, prepared, train, trained
from small_models import small_model
from small_records import write_records
from small_training import FEATURES, draw_recordings

RATE_HZ = 16_000


@pytest.fixture(scope="session")
def lives(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lives]:
    with living(tmp_path_factory.mktemp("lives")) as lives:
        yield lives


@pytest.fixture
def kills(request: pytest.FixtureRequest) -> int | None:
    """How many kills the command line asks for."""
    return request.config.getoption("--kills")


@pytest.fixture
def thorough(kills: int | None) -> None:
    """For tests whose runs of training take too long for each and every change."""
    if kills is None:
        pytest.skip("takes minutes; --kills 20 or more runs it")


@pytest.fixture(scope="session")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A manifest and its recordings, which make three shards of the training split and one of each other."""
    source = tmp_path_factory.mktemp("recordings")
    rng = np.random.default_rng(0)
    with (source / "manifest.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["file", "split", "speaker", "arousal"])
        for i, split in enumerate(["train"] * 34 + ["validation"] * 3 + ["test"] * 3 + ["unlabeled"] * 5):
            soundfile.write(source / f"{i}.wav", rng.normal(0, 0.1, RATE_HZ // 2 + 400 * i), RATE_HZ)
            rows.writerow([f"{i}.wav", split, f"s{i % 4}", "" if split == "unlabeled" else i % 7])
    return source


@pytest.fixture(scope="session")
def records(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Small records of all splits to train on."""
    data_dir = tmp_path_factory.mktemp("records") / "data"
    sizes = {"train": 25, "validation": 9, "test": 8, "unlabeled": 13}
    splits = {split: draw_recordings(size, seed) for seed, (split, size) in enumerate(sizes.items())}
    write_records(data_dir, FEATURES, splits)
    return data_dir


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model directory, to predict with."""
    directory = tmp_path_factory.mktemp("model")
    save_model(directory, small_model(("arousal",)))
    return directory


@pytest.fixture(scope="session")
def undisturbed_preparation(lives: Lives, recordings: Path, tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    folder = tmp_path_factory.mktemp("prepared")
    life = lives.live(prepare(recordings, folder), folder)
    assert life.status == 0 and life.events is not None, life.output
    return Undisturbed(folder, prepared(folder), life.events)


@pytest.fixture(scope="session")
def undisturbed_training(lives: Lives, records: Path, tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    folder = tmp_path_factory.mktemp("trained")
    life = lives.live(train(records, folder), folder / "work")
    assert life.status == 0 and life.events is not None, life.output
    return Undisturbed(folder, trained(folder), life.events)
