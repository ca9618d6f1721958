"""Where the settings of a training start: a preset, another run's file, and options on top of either."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from emocluster_jax import fit
from emocluster_jax.config import ClusteringConfig, ModelConfig, OptimizerConfig, Preset, TrainConfig, presets
from emocluster_jax.corpora.labels import VAD
from emocluster_jax.errors import InputError
from emocluster_jax.inference.model_directory import save_model
from emocluster_jax.training.workdir import claim
from launch.train import parse
from small_models import small_model

DATA = ["--data-dir", "data", "--workdir", "run"]
UNUSUAL = TrainConfig(
    model=ModelConfig(attributes=("valence", "arousal"), clusters=7, width_multiplier=0.5, compute_dtype="bfloat16"),
    clustering=ClusteringConfig(initialization="kmeans++", pca_components=16, whiten=True),
    optimizer=OptimizerConfig(adam_learning_rate=1e-3, freeze_regressor=True),
    epochs=3,
    unlabeled_size=12,
    patience=2,
    seed=5,
)


@pytest.mark.parametrize("preset", sorted({*presets} - {"fine-tune"}))
def test_presets(preset: Preset) -> None:
    assert parse([*DATA, "--preset", preset]).config == presets[preset]
    assert parse([*DATA, f"--preset={preset}", "--epochs", "2"]).config.epochs == 2


def test_a_preset_for_a_system_that_does_not_use_all_of_it() -> None:
    modern = presets["modern"]
    regressor = modern.for_system("cnn_regressor")
    assert regressor.optimizer == modern.optimizer and regressor.cluster_weight == 1
    for named in (["--model", "cnn_regressor"], ["--model=cnn_regressor"]):
        assert parse([*DATA, "--preset", "modern", *named]).config == regressor
    assert regressor.for_system("emocluster") == modern.replace(
        cluster_weight=1.0, cluster_warmup_epochs=0.0, l2_normalize=False
    )
    # What is asked for, rather than in the preset, is still refused.
    with pytest.raises(InputError, match="`cluster_weight` is given, but `system=cnn_regressor` does not use it"):
        parse([*DATA, "--preset", "modern", "--model", "cnn_regressor", "--cluster-weight", "0.5"])


def test_fine_tuning_has_the_network_of_the_model(tmp_path: Path) -> None:
    model = small_model(("valence", "stress"))
    save_model(tmp_path / "model", model)
    fine_tune = [*DATA, "--preset", "fine-tune"]
    config = parse([*fine_tune, "--init-from", str(tmp_path / "model"), "--epochs", "2"]).config
    assert config == presets["fine-tune"].replace(init_from=str(tmp_path / "model"), epochs=2, **vars(model.config))
    assert parse([*fine_tune, f"--init_from={tmp_path / 'model'}", "--clusters", "9"]).config.model.clusters == 9
    with pytest.raises(InputError, match="--preset fine-tune starts from a model; give its directory by --init-from"):
        parse(fine_tune)
    with pytest.raises(InputError, match=r"there is no model directory .*none; give what"):
        parse([*fine_tune, "--init-from", str(tmp_path / "none")])
    with pytest.raises(InputError, match="`config=fine-tune` starts from a model; give presets"):
        fit("data", "run", "fine-tune")


def test_the_preset_that_is_not_named() -> None:
    assert parse([]).config == presets["demo"]
    assert parse(DATA).config == parse(["--data_dir=data", "--workdir", "run"]).config == presets["paper"]


def test_the_demo_with_text() -> None:
    defaults = presets["small"].replace(attributes=VAD, inputs=("text",), input_dropout=0.3, epochs=8)
    assert parse(["--demo-text"]).config == parse(["--demo_text"]).config == defaults
    assert not parse(["--demo-text", "--no-demo-text"]).config.model.inputs
    given = ["--attributes", "valence", "--input-dropout", "0.1", "--epochs", "2", "--preset", "demo"]
    own = presets["demo"].replace(attributes=("valence",), inputs=("text",), input_dropout=0.1, epochs=2)
    assert parse([*given, "--demo-text"]).config == own
    with pytest.raises(InputError, match="--demo-text makes records of its own, and --data-dir names others"):
        parse([*DATA, "--demo-text"])
    with pytest.raises(
        InputError, match="--demo-text gives a text, and --model cnn_ae reads nothing besides audio; leave one out"
    ):
        parse(["--demo-text", "--model", "cnn_ae"])


def test_unlabelled_recordings_and_regressor_of_the_presets() -> None:
    sizes = [presets[name].unlabeled_size for name in ("paper", "paper-fsl", "paper-ssl-15k", "paper-ssl-40k")]
    assert sizes == [None, 0, 15_000, 40_000]
    assert presets["paper-as-published"].optimizer.freeze_regressor


def test_the_settings_of_another_run_are_repeated(tmp_path: Path) -> None:
    claim(tmp_path, UNUSUAL, "fingerprint", resume=False)
    file = str(tmp_path / "run.json")
    assert parse([*DATA, "--config", file]).config == UNUSUAL
    assert parse(["--config", file, *DATA, "--seed", "6", "--no-freeze-regressor"]).config == TrainConfig(
        model=UNUSUAL.model,
        clustering=UNUSUAL.clustering,
        optimizer=OptimizerConfig(adam_learning_rate=1e-3),
        epochs=3,
        unlabeled_size=12,
        patience=2,
        seed=6,
    )


def test_a_resumed_run_has_its_own_settings(tmp_path: Path) -> None:
    resumed = ["--data-dir", "data", f"--workdir={tmp_path}", "--resume"]
    assert parse(resumed).config == TrainConfig()  # there is no run yet
    claim(tmp_path, UNUSUAL, "fingerprint", resume=False)
    assert parse(resumed).config == UNUSUAL
    assert parse([*resumed, "--epochs", "9"]).config == replace(UNUSUAL, epochs=9)
    assert parse([*resumed, "--preset", "demo"]).config == presets["demo"]
    assert parse(resumed[:-1]).config == TrainConfig()


def test_a_run_whose_settings_were_changed_is_not_repeated(tmp_path: Path) -> None:
    claim(tmp_path, UNUSUAL, "fingerprint", resume=False)
    file = tmp_path / "run.json"
    file.write_text(file.read_text().replace('"seed": 5', '"seed": 6'))
    with pytest.raises(InputError, match=r"run\.json is damaged or was changed .*settings of your own"):
        parse([*DATA, "--config", str(file)])


def test_help_says_whose_defaults_it_shows(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    for arguments, whose in (([], "preset paper"), (DATA, "preset paper"), (["--preset", "small"], "preset small")):
        with pytest.raises(SystemExit):
            parse([*arguments, "--help"])
        lines = capsys.readouterr().out.splitlines()
        shown = " ".join(" ".join(lines).split())
        # As wide as the terminal, but for the command to copy.
        assert [line for line in lines if len(line) > 80] == [line for line in lines if "--preset small --attr" in line]
        assert f"The defaults below are those of {whose}; the demo has --width-multiplier 0.25 --epochs 5 " in shown


def test_a_file_that_holds_settings_alone(tmp_path: Path) -> None:
    file = tmp_path / "mine.json"
    file.write_text(json.dumps({"epochs": 4, "model": {"clusters": 20}}))
    assert parse([*DATA, f"--config={file}"]).config == TrainConfig(epochs=4, model=ModelConfig(clusters=20))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "does not exist"),
        ("{", "cannot be read"),
        ("[]", "is not a JSON object"),
        ('{"epoch": 4}', "unknown setting 'epoch'"),
        ('{"config": {"epochs": "4"}}', "epochs is '4'; expected int"),
    ],
)
def test_files_that_are_refused(tmp_path: Path, content: str | None, message: str) -> None:
    file = tmp_path / "settings.json"
    if content is not None:
        file.write_text(content)
    with pytest.raises(InputError, match=message):
        parse([*DATA, "--config", str(file)])


def test_one_starting_point() -> None:
    with pytest.raises(InputError, match="--preset and --config are both given"):
        parse([*DATA, "--preset", "demo", "--config", "run.json"])


def test_wrong_presets_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse([*DATA, "--preset", "paper-ssl"])
    assert "paper-ssl-15k" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        parse([*DATA, "--preset"])
