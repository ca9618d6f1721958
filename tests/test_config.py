"""Settings to JSON and back, and what is refused."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import asdict

import pytest

from emocluster_jax.config import (
    AutoencoderConfig,
    ClusteringConfig,
    FeatureConfig,
    GivenFeatures,
    LadderConfig,
    ModelConfig,
    OptimizerConfig,
    Preset,
    TrainConfig,
    features_from_dict,
    presets,
)
from emocluster_jax.errors import InputError
from emocluster_jax.settings import from_dict


@pytest.mark.parametrize("name", presets)
def test_presets_survive_json(name: Preset) -> None:
    config = presets[name]
    assert from_dict(TrainConfig, json.loads(json.dumps(asdict(config))), "here") == config


def test_settings_are_replaced_wherever_they_are() -> None:
    small = presets["small"]
    changed = small.replace(clusters=20, adam_learning_rate=1e-4, epochs=3)
    assert changed == dataclasses.replace(
        small,
        model=dataclasses.replace(small.model, clusters=20),
        optimizer=dataclasses.replace(small.optimizer, adam_learning_rate=1e-4),
        epochs=3,
    )
    model = ModelConfig(system="ladder")
    assert TrainConfig().replace(model=model, noise_std=0.1).ladder.noise_std == 0.1
    assert TrainConfig().replace(model=model, width_multiplier=2.0).model == dataclasses.replace(
        model, width_multiplier=2.0
    )
    with pytest.raises(InputError, match=r"there is no setting 'learning_rate'; did you mean .*adam_learning_rate"):
        small.replace(learning_rate=1e-4)
    with pytest.raises(InputError, match="`clusters` is 0"):
        small.replace(clusters=0)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"epoch": 3}, "here: unknown setting 'epoch'; known are model, "),
        ({"epochs": "3"}, "here: epochs is '3'; expected int"),
        ({"epochs": True}, "here: epochs is True; expected int"),
        (
            {"model": {"attributes": ["file"]}},
            "here: model: `attributes`: 'file' cannot be the name of a label; use letters",
        ),
        ({"model": {"attributes": "arousal"}}, "attributes is 'arousal'; expected a list"),
        ({"model": {"clusters": 0}}, "here: model: `clusters` is 0; expected 1 to 1000000"),
        ({"model": {"width_multiplier": 1e9}}, "more than 0, and 64 at most"),
        ({"model": {"width_multiplier": 10**400}}, "width_multiplier is 1000.*; expected float"),
        ({"clustering": 4}, "here: clustering: expected an object of settings, found int"),
    ],
)
def test_refused(values: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        from_dict(TrainConfig, values, "here")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: FeatureConfig(hop_size=0), "`hop_size` is 0; expected 1 to 16384"),
        (lambda: FeatureConfig(clip=float("inf")), "`clip` is inf"),
        (lambda: FeatureConfig(mel_bands=1_024, chunk_frames=4_096), "have 46137344 values; expected 16777216 at most"),
        (lambda: ModelConfig(clusters=0), "`clusters` is 0"),
        (lambda: ModelConfig(attributes=()), "attributes"),
        (lambda: ModelConfig(attributes=("arousal", "arousal")), "arousal twice"),
        (lambda: ModelConfig(dropout_rate=1.0), "`dropout_rate` is 1.0"),
        (lambda: ModelConfig(width_multiplier=0.0), "`width_multiplier` is 0.0"),
        (lambda: TrainConfig(epochs=0), "`epochs` is 0"),
        (lambda: TrainConfig(batch_size=0), "`batch_size` is 0"),
        (lambda: TrainConfig(unlabeled_size=-1), "`unlabeled_size` is -1"),
        (lambda: TrainConfig(stages="unsupervised", patience=2), "`patience` waits for a better epoch"),
        (lambda: LadderConfig(noise_std=-0.1), "`noise_std` is -0.1"),
        (lambda: LadderConfig(denoising_weights=(1.0, 1.0)), "`denoising_weights` is"),
        (lambda: AutoencoderConfig(kl_weight=-1.0), "`kl_weight` is -1.0"),
        (lambda: ClusteringConfig(whiten=True), "`pca_components`"),
        (lambda: ClusteringConfig(iterations=0), "`iterations` is 0"),
    ],
)
def test_impossible_settings(make, message: str) -> None:
    with pytest.raises(InputError, match=message):
        make()


@pytest.mark.parametrize(
    ("system", "options", "message"),
    [
        (
            "cnn_ae",
            {"clustering": ClusteringConfig(iterations=3)},
            "`iterations` is given, but `system=cnn_ae` does not use it; it belongs to emocluster",
        ),
        ("cnn_ae", {"optimizer": OptimizerConfig(freeze_regressor=True)}, "`freeze_regressor` is given"),
        ("cnn_ae", {"autoencoder": AutoencoderConfig(kl_weight=2.0)}, "it belongs to cnn_vae"),
        ("emocluster", {"ladder": LadderConfig(noise_std=0.1)}, "`noise_std` is given"),
        ("emocluster", {"autoencoder": AutoencoderConfig(reconstruction_weight=2.0)}, "it belongs to cnn_ae, cnn_vae"),
        ("ladder", {"stages": "unsupervised"}, "`stages` is given"),
        ("cnn_regressor", {"ccc_weight": 2.0}, "`ccc_weight` is given"),
        ("emocluster_gru", {"triplet_weight": 2.0}, "it belongs to emocluster_triplet"),
        ("cnn_regressor", {"unlabeled_size": 10}, "`system=cnn_regressor` learns from labels alone"),
    ],
)
def test_options_of_other_systems(system, options: dict, message: str) -> None:
    model = ModelConfig(system=system)
    TrainConfig(model=model)
    with pytest.raises(InputError, match=message):
        TrainConfig(model=model, **options)


def test_both_kinds_of_features_survive_json() -> None:
    for features in (FeatureConfig(), GivenFeatures(dimensions=768, frames_per_second=49.9, clip=5.0)):
        assert features_from_dict(json.loads(json.dumps(asdict(features))), "here") == features
    # What is prepared is known by these settings in this order: others would prepare all data anew.
    assert json.dumps(asdict(FeatureConfig())) == (
        '{"sample_rate_hz": 16000, "fft_size": 512, "hop_size": 256, "mel_bands": 128, "chunk_frames": 62, '
        '"chunks_per_utterance": 11, "clip": 3.0}'
    )
    for values, message in (
        ({"frames_per_second": 50.0, "dimensions": 10**6}, "here: `dimensions` is 1000000; expected 1 to 16384"),
        ({"frames_per_second": 50.0, "dimensions": 4, "mel_bands": 4}, "here: unknown setting 'mel_bands'"),
        ({"frames_per_second": 50.0}, "here: no setting 'dimensions'"),
    ):
        with pytest.raises(InputError, match=message):
            features_from_dict(values, "here")


def test_the_width_in_words() -> None:
    widths = [ModelConfig(width_multiplier=factor).width for factor in (1, 0.25)]
    assert widths == ["the published width", "0.25 times the published width"]


def test_settings_from_before_there_were_several_systems() -> None:
    values = asdict(TrainConfig())
    del values["model"]["system"], values["autoencoder"], values["ladder"], values["stages"]
    assert from_dict(TrainConfig, values, "here") == TrainConfig()


def test_settings_from_before_networks_over_chunks_were_systems() -> None:
    values = asdict(ModelConfig())
    assert from_dict(ModelConfig, {**values, "temporal": "none"}, "here") == ModelConfig()
    with pytest.raises(InputError, match="here: unknown setting 'temporal'"):
        from_dict(ModelConfig, {**values, "temporal": "past_mean"}, "here")


def test_dropout_belongs_to_the_layers_that_have_it() -> None:
    TrainConfig(model=ModelConfig(system="emocluster_cnn", temporal_dropout_rate=0.1, dropout_rate=0.2))
    for system, rates in (
        ("emocluster_triplet", {"dropout_rate": 0.2}),
        ("emocluster_gru", {"temporal_dropout_rate": 0.2}),
    ):
        model = ModelConfig(system=system, **rates)
        with pytest.raises(InputError, match="dropout_rate` is given"):
            TrainConfig(model=model)
