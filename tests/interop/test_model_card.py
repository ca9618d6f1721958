"""The card's numbers are the run's, and what a run did not leave is not in it."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
import yaml

from emocluster_jax.config import TrainConfig
from emocluster_jax.errors import InputError
from emocluster_jax.evaluation.calibration import Calibration
from emocluster_jax.evaluation.cluster_information import ClusterInformation, Information
from emocluster_jax.evaluation.metrics import Scores
from emocluster_jax.evaluation.run_results import (
    CLUSTERS_FILE,
    TEST_SCORES,
    RunScores,
    write_clusters,
    write_run_scores,
)
from emocluster_jax.inference.model_directory import SavedModel
from emocluster_jax.interop.model_card import RunNumbers, model_card, read_run_numbers
from emocluster_jax.records.folds import Folds
from emocluster_jax.training.workdir import _id_of, claim, read_run
from small_models import small_model
from small_records import write_records
from small_training import FEATURES, draw_recordings

CONFIG = TrainConfig(epochs=9, unlabeled_size=7, seed=3, init_from="/somewhere/published")
RUN_ID = _id_of(CONFIG, "drawn", "abc123")
KNOWN = Information(3, 12, 0.2, 0.3, 0.2, 0.123, 0.004, None, "sentences")


def trained() -> SavedModel:
    origin = {"training": dataclasses.asdict(CONFIG), "run": RUN_ID, "epoch": 4, "validation_ccc": 0.4567}
    return small_model(("arousal", "valence"), origin=origin)


@pytest.fixture
def workdir(tmp_path: Path) -> Path:
    """A run that has ended, as far as the card is concerned."""
    claim(tmp_path, CONFIG, "drawn", resume=False, initial_sha256="abc123")
    scores = {"arousal": Scores(0.61234, 0.65, 0.7, 12), "valence": Scores(math.nan, math.nan, 1.25, 8)}
    write_run_scores(tmp_path / TEST_SCORES, RUN_ID, RunScores(scores, "of no file"))
    write_clusters(tmp_path / CLUSTERS_FILE, RUN_ID, 4, ClusterInformation({"arousal": KNOWN}, KNOWN, None, 5, 999))
    return tmp_path


def front_matter(card: str) -> dict:
    start, front, _ = card.split("---\n", 2)
    assert start == ""
    return yaml.safe_load(front)


def test_the_front_matter_has_the_scores(workdir: Path, tmp_path: Path) -> None:
    preparation = write_records(tmp_path / "records", FEATURES, {"train": draw_recordings(3, seed=0)})
    run = read_run_numbers(workdir / "model", trained())
    card = model_card(trained(), run, preparation, [], name="mine: 1", license="cc-by-4.0")
    front = front_matter(card)
    assert (front["license"], front["library_name"]) == ("cc-by-4.0", "emocluster_jax")
    assert {"arousal", "valence"} <= set(front["tags"]) and front["metrics"] == ["ccc", "pearsonr", "rmse"]
    (entry,) = front["model-index"]
    (result,) = entry["results"]
    assert entry["name"] == "mine: 1" and result["dataset"] == {"type": "drawn", "name": "drawn", "split": "test"}
    values = {metric["name"]: metric["value"] for metric in result["metrics"]}
    # A CCC that is not defined is no number of the card's.
    assert values == {
        "CCC of arousal": 0.6123,
        "Pearson r of arousal": 0.65,
        "RMSE of arousal": 0.7,
        "RMSE of valence": 1.25,
    }


def test_the_text_has_data_selection_scores_and_clusters(workdir: Path, tmp_path: Path) -> None:
    preparation = write_records(tmp_path / "records", FEATURES, {"train": draw_recordings(3, seed=0)})
    card = model_card(trained(), read_run_numbers(workdir / "model", trained()), preparation, [], name="mine")
    for part in (
        "corpus `drawn`: train 3 recordings (1.00 h)",
        "Epoch 4 of 9: the one with the best validation CCC, 0.457",
        "Began with the weights of `published` (SHA-256 of its arrays `abc123`)",
        "| arousal | 0.612 | 0.650 | 0.700 | 12 |",
        "| valence | not defined | not defined | 1.250 | 8 |",
        "| arousal | 0.123 | 0.004 |",
        "The licence of the weights is not stated.",
    ):
        assert part in card
    assert front_matter(card)["license"] == "unknown"


def test_without_a_run_there_are_no_scores(tmp_path: Path) -> None:
    model = small_model(origin={"imported_from": "Act.pth.tar", "sha256": "123abc"})
    card = model_card(model, read_run_numbers(tmp_path / "model", model), None, [], name="imported")
    assert "model-index" not in front_matter(card) and "metrics" not in front_matter(card)
    assert f"The network (DeepEmoCluster, {model.config.width}) reads " in card
    assert "Imported from `Act.pth.tar` (SHA-256 `123abc`)" in card and "None are known" in card


def test_a_calibrated_model_says_so_and_has_not_the_scores_of_its_run(workdir: Path) -> None:
    calibration = Calibration("/somewhere/studio", "manifest", "abc", "train", 20, 4.2, 0.9, seed=3)
    origin = {**trained().origin, "calibration": {"valence": dataclasses.asdict(calibration)}}
    model = dataclasses.replace(trained(), origin=origin, label_mean=np.array([3, -0.25], np.float32))
    card = model_card(model, read_run_numbers(workdir / "calibrated", model), None, [], name="mine")
    for part in (
        "in label units: arousal (training labels 3.00 ± 0.50), valence (on the scale of its calibration).",
        "- valence: 20 recordings of the split `train` of `studio` (corpus `manifest`), drawn with seed 3. The label "
        "mean is now -0.250 and the deviation 1.000; in training they were 4.200 and 0.900.\n",
        "## Test scores\n\nNone are known of the calibrated model",
        "on the scale of their calibration",
        "| arousal | 0.123 | 0.004 |",  # what the clusters know is as before
    ):
        assert part in card
    assert "model-index" not in front_matter(card)


def test_clusters_of_another_epoch_and_other_data_are_left_out(workdir: Path, tmp_path: Path) -> None:
    later = dataclasses.replace(trained(), origin={**trained().origin, "epoch": 5})
    run = read_run_numbers(workdir / "model", later)
    assert run.clusters is None
    preparation = write_records(tmp_path / "records", FEATURES, {"train": draw_recordings(3, seed=0)})
    with pytest.raises(InputError, match="`data_dir` is not what the model was trained on"):
        assert run.saved is not None
        other = dataclasses.replace(run, saved=dataclasses.replace(run.saved, data="other"))
        model_card(later, other, preparation, [], name="mine")


def test_the_fold_of_a_run_is_told(tmp_path: Path) -> None:
    folds = Folds((("anna",), ("ben",), ("carla",)), (1, 2, 3, 3, 2, 1))
    preparation = write_records(tmp_path / "records", FEATURES, {"train": draw_recordings(6, seed=0)}, folds)
    config = dataclasses.replace(CONFIG, fold=3)
    claim(tmp_path, config, "drawn", resume=False)
    origin = {"training": dataclasses.asdict(config), "run": read_run(tmp_path).id, "epoch": 4, "validation_ccc": 0.4}
    model = dataclasses.replace(trained(), origin=origin)
    card = model_card(model, read_run_numbers(tmp_path / "model", model), preparation, [], name="mine")
    assert "- Data: corpus `drawn`: labelled 6 recordings (1.00 h)." in card
    fold = "tests on 2 recordings of carla, validates on 2 recordings of anna, trains on 2 recordings"
    assert f"- Fold 3 of 3: {fold}.\n" in card
    # Whose folds these are, a model alone does not say.
    assert "Fold 3" not in model_card(model, RunNumbers(), preparation, [], name="mine")
