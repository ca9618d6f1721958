from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from emocluster_jax.errors import InputError
from emocluster_jax.inference.model_directory import read_model
from launch import import_torch
from running import call


def run(monkeypatch: pytest.MonkeyPatch, reference: Path, attribute: str, output: Path) -> None:
    weights = next((reference / "pretrained").glob(f"*_{attribute[:3].title().replace('Aro', 'Act')}.pth.tar"))
    arguments = ["--weights", weights, "--norm", reference / "norm", "--attribute", attribute, "--output", output]
    call(import_torch, *map(str, arguments))


def test_a_published_model_becomes_a_model_directory(
    reference: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    torch = pytest.importorskip("torch", reason='PyTorch is not installed; pip install "emocluster_jax[import]"')
    output = tmp_path / "published" / "arousal"

    run(monkeypatch, reference, "arousal", output)

    model = read_model(output)
    assert model.config.attributes == ("arousal",)
    assert model.config.clusters == 10
    assert model.origin["imported_from"].endswith("_Act.pth.tar")
    weights = next((reference / "pretrained").glob("*_Act.pth.tar"))
    state = torch.load(weights, map_location="cpu", weights_only=True)["state_dict"]
    np.testing.assert_array_equal(
        model.variables["params"]["cluster_classifier"]["output"]["kernel"], state["top_layer_class.weight"].numpy().T
    )
    assert f"--checkpoint {output}" in capsys.readouterr().out

    run(monkeypatch, reference, "arousal", output)  # the same again changes nothing
    with pytest.raises(InputError, match="holds another model"):
        run(monkeypatch, reference, "valence", output)
    assert read_model(output).config.attributes == ("arousal",)


def test_an_output_that_is_something_else_is_refused(
    reference: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.json").write_text("mine")
    with pytest.raises(InputError, match="holds other files"):
        run(monkeypatch, reference, "arousal", tmp_path / "run")
    (tmp_path / "model").write_text("mine")
    with pytest.raises(InputError, match="is a file"):
        run(monkeypatch, reference, "arousal", tmp_path / "model")
    assert (tmp_path / "model").read_text() == "mine"
