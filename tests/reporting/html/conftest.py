"""A run that was really trained, on recordings whose names and speakers try to leave the page's text."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from emocluster_jax.config import AudioConfig, FeatureConfig
from emocluster_jax.console import Console
from emocluster_jax.evaluation.run_results import (
    TEST_PREDICTIONS,
    TEST_SCORES,
    SentencePredictions,
    read_run_scores,
    write_run_scores,
    write_test_predictions,
)
from emocluster_jax.records.writer import prepare
from emocluster_jax.storage.checksums import file_sha256
from emocluster_jax.training.workdir import read_run
from hostile_corpus import HOSTILE_ID, SIZES, write_hostile_corpus
from launch import report, train
from running import call
from small_models import write_recording


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Records of noises of 0.2 to 2.1 seconds, cut into chunks of a quarter of a second.

    They are the first of two channels that cancel, so that whatever decodes them otherwise has nothing.
    """
    source = tmp_path_factory.mktemp("corpus")
    utterances = write_hostile_corpus(source)
    for utterance in utterances:
        signal, rate = soundfile.read(utterance.path, dtype="float32")
        write_recording(utterance.path, np.stack([signal, -signal]), rate)
    data_dir = tmp_path_factory.mktemp("data") / "records"
    features = FeatureConfig(mel_bands=32, chunk_frames=16, chunks_per_utterance=4)
    audio = AudioConfig(channel=1)
    prepare(utterances, data_dir, features, "noises", str(source), 1, Console(quiet=True), audio=audio)
    return data_dir


@pytest.fixture(scope="session")
def run(data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The work directory of two epochs."""
    workdir = tmp_path_factory.mktemp("runs") / "run"
    settings = "--epochs 2 --batch-size 4 --clusters 3 --width-multiplier 0.125 --attributes arousal valence --quiet"
    call(train, "--data-dir", str(data_dir), "--workdir", str(workdir), *settings.split())
    truth = np.array([[1, 3], [np.nan, 3.5], [4, 3.2]], np.float32)
    predictions = np.array([[2.5, 2], [2.5, 3], [3.5, 2]], np.float32)
    sentences = SentencePredictions((HOSTILE_ID, "b", "c"), ("arousal", "valence"), truth, predictions)
    write_test_predictions(workdir / TEST_PREDICTIONS, sentences)
    run_id = read_run(workdir).id
    kept = replace(
        read_run_scores(workdir / TEST_SCORES, run_id), predictions_sha256=file_sha256(workdir / TEST_PREDICTIONS)
    )
    write_run_scores(workdir / TEST_SCORES, run_id, kept)
    return workdir


@pytest.fixture(scope="session")
def page(run: Path, data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run's page, with every recording to listen to."""
    output = tmp_path_factory.mktemp("page") / "report.html"
    options = ["--workdir", run, "--data-dir", data_dir, "--clips", sum(SIZES.values()), "--output", output]
    call(report, *map(str, options), "--quiet")
    return output


@pytest.fixture(scope="session")
def browser() -> Iterator[Callable[[Path], Any]]:
    """Opens pages in Chromium, one after another."""
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if chromium is None or driver is None:
        pytest.skip("no chromium and chromedriver; Debian: apt-get install chromium chromium-driver")
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    # Containers run tests as root, where Chromium's own sandbox refuses to start, and with little shared memory; the
    # pages are our own.
    for name in ("headless=new", "no-sandbox", "disable-dev-shm-usage", "disable-gpu", "window-size=1280,900"):
        options.add_argument(f"--{name}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    chrome = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))

    def open_page(path: Path) -> Any:
        chrome.get(path.resolve().as_uri())
        return chrome

    try:
        yield open_page
    finally:
        chrome.quit()
