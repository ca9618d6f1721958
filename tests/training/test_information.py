"""Training that ties clusters to the labels, or parts them from the speakers."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from emocluster_jax.config import TrainConfig
from emocluster_jax.console import Console
from emocluster_jax.errors import InputError
from emocluster_jax.models.network import Output
from emocluster_jax.objectives.information import information_objective
from emocluster_jax.objectives.stage import Batch
from emocluster_jax.training.data import TrainingData, label_classes
from emocluster_jax.training.epoch import _speakers_of_batch
from emocluster_jax.training.loop import fit
from emocluster_jax.training.metrics_log import read_metrics
from small_training import AUGMENTED, MODEL, make_data

CONFIG = TrainConfig(model=MODEL, epochs=4, batch_size=4)


@pytest.fixture(scope="module")
def data() -> TrainingData:
    """Supervised, of five speakers and, of the last recording, an unknown one."""
    made = dataclasses.replace(make_data(unlabeled=False), speakers=lambda: [*(f"s{i % 5}" for i in range(24)), ""])
    return made


def test_classes_are_bins_of_the_training_labels_and_speakers(data: TrainingData) -> None:
    assert label_classes(CONFIG, data) is None
    found = label_classes(CONFIG.replace(speaker_information_weight=1.0, information_bins=3), data)
    assert found is not None and found.shape == (25, 3)
    labels = data.train.labels.of(MODEL.attributes) if data.train else None
    assert labels is not None
    for column in range(2):
        known = np.isfinite(labels[:, column])
        assert (found[~known, column] == -1).all()
        # Three bins of equally many, or one more or less, in the labels' order.
        order = found[known, column][np.argsort(labels[known, column])]
        assert (np.diff(order) >= 0).all() and set(np.bincount(order)) <= {known.sum() // 3, -(-known.sum() // 3)}
    np.testing.assert_array_equal(found[:, 2], [*(i % 5 for i in range(24)), -1])


def test_a_batch_numbers_its_own_speakers() -> None:
    classes = np.array([[0, 700], [-1, 3], [2, -1], [1, 700]])
    np.testing.assert_array_equal(_speakers_of_batch(classes), [[0, 1], [-1, 0], [2, -1], [1, 1]])


def test_what_is_added_to_the_loss() -> None:
    rng = np.random.default_rng(0)
    logits, classes = rng.normal(size=(40, 5)), rng.integers(-1, 4, size=(40, 3))

    def share(column: int) -> float:
        known = classes[:, column] >= 0
        soft = np.exp(logits[known]) / np.exp(logits[known]).sum(axis=1, keepdims=True)
        joint = soft.T @ np.eye(4)[classes[known, column]] / known.sum()
        of_classes = joint.sum(axis=0)
        independent = joint.sum(axis=1, keepdims=True) * of_classes
        return (joint * np.log(joint / independent)).sum() / -(of_classes * np.log(of_classes)).sum()

    config = CONFIG.replace(information_weight=0.5, speaker_information_weight=2.0)
    objective = information_objective(config, None)
    assert objective is not None and information_objective(CONFIG, None) is None
    nothing = jnp.zeros((40, 1))
    batch = Batch({}, None, nothing, jnp.zeros(()), jnp.asarray(classes))
    loss, terms = objective(Output(nothing, nothing, jnp.asarray(logits, jnp.float32)), batch)
    expected = {"label_information": (share(0) + share(1)) / 2, "speaker_information": share(2)}
    # Differences of entropies of size 1, in float32.
    assert jax.tree.map(float, terms) == pytest.approx(expected, abs=2e-6)
    assert float(loss) == pytest.approx(2 * share(2) - 0.5 * expected["label_information"], abs=5e-6)


@pytest.mark.parametrize(("rewarded", "system"), [(True, "emocluster"), (False, "emocluster_gru")])
def test_it_is_learned(rewarded: bool, system: str, data: TrainingData, tmp_path: Path) -> None:
    """Towards the labels, and away from the speakers, who have chunks of their own here."""
    name, weight = ("label_information", 5.0) if rewarded else ("speaker_information", 5.0)
    settings = {"information_weight" if rewarded else "speaker_information_weight": weight}
    ways = {}
    for title, changed in (("plain", 1e-6), ("weighted", weight)):
        config = CONFIG.replace(system=system, adam_learning_rate=5e-3, **dict.fromkeys(settings, changed))
        config = dataclasses.replace(config, augmentation=AUGMENTED if rewarded else config.augmentation)
        if config.augmentation.chunk_offset:
            config = config.replace(chunk_offset=0.0)  # the chunks here were not cut from recordings
        fit(config, data, tmp_path / title, Console(quiet=True))
        ways[title] = read_metrics(tmp_path / title / "metrics.jsonl")[-1][f"stage2_{name}"]
    assert (ways["weighted"] > 1.5 * ways["plain"]) if rewarded else (ways["weighted"] < 0.8 * ways["plain"]), ways


def test_what_cannot_be_asked_for(data: TrainingData) -> None:
    for name in ("information_weight", "speaker_information_weight"):
        with pytest.raises(InputError, match=f"`{name}` is for stage II with labels"):
            CONFIG.replace(stages="unsupervised", **{name: 0.5})
        with pytest.raises(InputError, match=f"`{name}` is given, but `system=cnn_ae` does not use it"):
            CONFIG.replace(system="cnn_ae", clusters=10, **{name: 0.5})
    alone = dataclasses.replace(data, speakers=lambda: ["she"] * 24 + [""])
    with pytest.raises(InputError, match="needs two known speakers or more to train on"):
        label_classes(CONFIG.replace(speaker_information_weight=1.0), alone)
