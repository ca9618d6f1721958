"""Settings to JSON and back, and what is refused."""

from __future__ import annotations

import json

import pytest

from emocluster_jax.config import PRESETS, ClusteringConfig, ModelConfig, TrainConfig, from_dict, to_dict
from emocluster_jax.errors import InputError


@pytest.mark.parametrize("name", PRESETS)
def test_presets_survive_json(name: str) -> None:
    config = PRESETS[name]
    assert from_dict(TrainConfig, json.loads(json.dumps(to_dict(config))), "here") == config


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"epoch": 3}, "here: unknown setting 'epoch'; known are model, "),
        ({"epochs": "3"}, "here: epochs is '3'; expected int"),
        ({"epochs": True}, "here: epochs is True; expected int"),
        ({"model": {"attributes": ["anger"]}}, "here: model: attributes is 'anger'; expected one of arousal"),
        ({"model": {"attributes": "arousal"}}, "attributes is 'arousal'; expected a list"),
        ({"clustering": 4}, "here: clustering: expected an object of settings, found int"),
    ],
)
def test_refused(values: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        from_dict(TrainConfig, values, "here")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ModelConfig(clusters=0), "clusters is 0"),
        (lambda: ModelConfig(attributes=()), "attributes"),
        (lambda: ModelConfig(attributes=("arousal", "arousal")), "arousal twice"),
        (lambda: ModelConfig(dropout_rate=1.0), "dropout-rate is 1.0"),
        (lambda: ModelConfig(width_multiplier=0.0), "width-multiplier is 0.0"),
        (lambda: TrainConfig(epochs=0), "epochs is 0"),
        (lambda: TrainConfig(batch_size=0), "batch-size is 0"),
        (lambda: TrainConfig(unlabeled_size=-1), "unlabeled-size is -1"),
        (lambda: ClusteringConfig(whiten=True), "pca-components"),
        (lambda: ClusteringConfig(iterations=0), "iterations is 0"),
    ],
)
def test_impossible_settings(make, message: str) -> None:
    with pytest.raises(InputError, match=message):
        make()
