"""Exported models say what the model says, elsewhere; and nothing is written that does not."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from jax import export as jax_export

from emocluster_jax import load_model
from emocluster_jax.clustering.embedding_transform import EmbeddingTransform
from emocluster_jax.config import AudioConfig, ClusteringConfig, GivenFeatures, SystemName
from emocluster_jax.corpora.inputs import FurtherInput
from emocluster_jax.errors import InputError
from emocluster_jax.inference import onnx_graph
from emocluster_jax.inference.model_directory import SavedModel, named_arrays, read_model, save_model, weights_sha256
from emocluster_jax.inference.parity import TOLERANCE, ParityError
from emocluster_jax.inference.predictor import Prediction, Predictor
from emocluster_jax.interop import export_folder
from emocluster_jax.interop.export_folder import (
    Exported,
    check_request,
    description,
    example_chunks,
    export,
)
from emocluster_jax.models.registry import variables_of
from launch import export as command
from running import call
from small_models import noise, small_model, write_recording

PROJECT = Path(__file__).resolve().parents[2]
for package in ("flatbuffers", "onnx", "onnxruntime", "safetensors"):
    pytest.importorskip(package, reason=f'{package} is not installed; pip install "emocluster_jax[export]"')


@pytest.fixture(scope="module")
def model() -> SavedModel:
    """With principal components and unit lengths; five of the example's chunks are centroids."""
    projection = np.random.default_rng(1).normal(size=(32, 8)).astype(np.float32)

    def make(mean: np.ndarray, centroids: np.ndarray) -> SavedModel:
        return small_model(
            ("arousal", "valence"),
            clustering=ClusteringConfig(pca_components=8, l2_normalize=True),
            transform=EmbeddingTransform(mean, projection),
            centroids=centroids,
        )

    drawn = make(np.zeros(32, np.float32), np.zeros((5, 8), np.float32))
    embeddings = Predictor(drawn).predict_chunks(example_chunks(drawn))[0].chunk_embeddings
    mean = embeddings.mean(axis=0)
    centroids = (embeddings[:5] - mean) @ projection
    return make(mean, centroids / np.linalg.norm(centroids, axis=1, keepdims=True))


@pytest.fixture(scope="module")
def prediction(model: SavedModel) -> Prediction:
    return Predictor(model, engine="jax").predict_chunks(example_chunks(model))[0]


@pytest.fixture(scope="module")
def folder(model: SavedModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model by the command, in all formats."""
    root = tmp_path_factory.mktemp("exported")
    save_model(root / "model", model)
    call(command, "--checkpoint", str(root / "model"), "--output", str(root / "elsewhere"), "--quiet")
    return root / "elsewhere"


def assert_rows(outputs: dict[str, np.ndarray], prediction: Prediction, rows: int) -> None:
    for name, own in (("attributes", prediction.chunk_attributes), ("embeddings", prediction.chunk_embeddings)):
        # As at export: float32 sums in another order.
        np.testing.assert_allclose(outputs[name], own[:rows], rtol=0, atol=TOLERANCE * np.abs(own).max())
    assert prediction.chunk_clusters is not None
    np.testing.assert_array_equal(outputs["clusters"], prediction.chunk_clusters[:rows])


def test_chunks_fall_into_different_clusters(prediction: Prediction) -> None:
    assert prediction.chunk_clusters is not None
    assert len(set(prediction.chunk_clusters.tolist())) > 1  # or parity would say little


@pytest.mark.parametrize("rows", [1, 3])
def test_stablehlo_takes_any_number_of_chunks(
    folder: Path, model: SavedModel, prediction: Prediction, rows: int
) -> None:
    from jax import export

    program = export.deserialize(bytearray((folder / "model.stablehlo").read_bytes()))
    assert program.platforms == ("cpu", "cuda", "tpu")
    outputs = program.call(example_chunks(model)[:rows])
    assert_rows({name: np.asarray(value) for name, value in outputs.items()}, prediction, rows)


@pytest.mark.parametrize("rows", [1, 3, 11])
def test_onnx_takes_any_number_of_chunks(folder: Path, model: SavedModel, prediction: Prediction, rows: int) -> None:
    outputs = onnx_graph.onnx_session((folder / "model.onnx").read_bytes())({"chunks": example_chunks(model)[:rows]})
    assert outputs["clusters"].dtype == np.int32
    assert_rows(outputs, prediction, rows)


def test_safetensors_holds_every_array_and_the_description(folder: Path, model: SavedModel) -> None:
    from safetensors import safe_open

    with safe_open(folder / "model.safetensors", framework="numpy") as file:
        arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it is no dictionary)
        metadata = file.metadata()
    expected = named_arrays(model)
    assert arrays.keys() == expected.keys() and len(arrays) == 7 * (1 + 4) + 2 + 2 * 4 + 3
    for name, array in arrays.items():
        np.testing.assert_array_equal(array, expected[name])
    params, statistics = model.variables["params"], model.variables["batch_stats"]
    np.testing.assert_array_equal(arrays["encoder.convolution_2.kernel"], params["encoder"]["convolution_2"]["kernel"])
    np.testing.assert_array_equal(arrays["encoder.norm_6.var"], statistics["encoder"]["norm_6"]["var"])
    described = json.loads((folder / "config.json").read_text())
    assert json.loads(metadata["config"]) == described == json.loads(json.dumps(description(model)))


def test_networks_without_centroids_or_clusters(model: SavedModel) -> None:
    for other in (
        dataclasses.replace(model, transform=None, centroids=None, clustering=ClusteringConfig()),
        small_model(system="cnn_vae"),
        small_model(system="ladder"),
    ):
        assert export(other, "onnx").differences["embeddings"] < 1e-3  # and within the tolerance, or it would raise
    assert export(small_model(system="cnn_ae"), "stablehlo").differences.keys() == {"attributes", "embeddings"}


@pytest.mark.parametrize("system", ["emocluster_gru", "emocluster_cnn", "emocluster_transformer"])
def test_networks_that_look_across_chunks_take_whole_recordings(system: SystemName, tmp_path: Path) -> None:
    other = small_model(system=system)
    exported = export(other, "stablehlo")  # whose outputs are compared with the model's
    assert exported.differences.keys() == {"attributes", "embeddings", "clusters"}
    chunks = example_chunks(other)
    outputs: Any = jax_export.deserialize(bytearray(exported.content)).call(np.concatenate([chunks, chunks[::-1]]))
    one = {name: np.asarray(rows)[:11] for name, rows in outputs.items()}
    assert_rows(one, Predictor(other, engine="jax").predict_chunks(chunks)[0], 11)
    with pytest.raises(InputError, match="`formats=onnx` cannot hold a model that looks across chunks"):
        check_request(tmp_path / "out", ["onnx"], other)


def test_a_model_of_bfloat16_is_exported(model: SavedModel) -> None:
    rounded = small_model(system="cnn_regressor")
    rounded = dataclasses.replace(rounded, config=dataclasses.replace(rounded.config, compute_dtype="bfloat16"))
    # In float32, as it predicts: equal to rounding of float32.
    for format in ("stablehlo", "onnx"):
        assert export(rounded, format).differences["attributes"] < 1e-3


def test_what_differs_from_the_model_is_not_written(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnx_graph, "NORM_EPSILON", 0.1)
    checkpoint = str(folder.parent / "model")
    with pytest.raises(ParityError, match="onnx: attributes differ from the model's by"):
        call(command, "--checkpoint", checkpoint, "--output", str(tmp_path / "out"), "--format", "onnx", "--quiet")
    assert not (tmp_path / "out").exists()


def test_an_edited_card_stays_and_another_model_is_refused(folder: Path, model: SavedModel, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes((folder / "config.json").read_bytes())
    (tmp_path / "README.md").write_text("mine")
    check_request(tmp_path, ("onnx",), model)
    export_folder.write_export(tmp_path, model, [Exported("model.onnx", b"graph", {})], "the program's")
    assert (tmp_path / "README.md").read_text() == "mine"
    with pytest.raises(InputError, match="holds other files than exports of this model"):
        check_request(tmp_path, ("onnx",), small_model(seed=3))
    with pytest.raises(InputError, match="holds other files than exports of this model"):  # one that was calibrated
        check_request(tmp_path, ("onnx",), dataclasses.replace(model, label_std=2 * model.label_std))
    with pytest.raises(InputError, match="is a file"):
        check_request(tmp_path / "README.md", ("onnx",), model)


def test_a_missing_package_is_named(model: SavedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export_folder, "find_spec", lambda name: None if name == "onnxruntime" else True)
    with pytest.raises(InputError, match=r'`formats=onnx` needs onnxruntime: pip install "emocluster_jax\[export\]"'):
        check_request(tmp_path, ("stablehlo", "onnx"), model)


def test_hashes_tell_weights_apart(folder: Path, model: SavedModel) -> None:
    assert weights_sha256(read_model(folder.parent / "model")) == weights_sha256(model)
    assert weights_sha256(model) != weights_sha256(dataclasses.replace(model, centroids=None))


def python_of(text: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", text, re.S)


def test_the_documented_recipe_is_the_cards(folder: Path) -> None:
    documented = python_of((PROJECT / "docs" / "export.md").read_text("utf-8"))
    assert [part.replace("exported/", "") for part in documented] == python_of((folder / "README.md").read_text())


def run_the_card(folder: Path, program: str) -> np.ndarray:
    """What the card's code computes with one of its programs, in a process that imports nothing of this project."""
    prepare, *programs = python_of((folder / "README.md").read_text())
    (chosen,) = (part for part in programs if program in part)
    ends = "import sys\nassert 'emocluster_jax' not in sys.modules\nnp.save('found.npy', attributes)\n"
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    code = prepare + chosen + ends + ("assert 'jax' not in sys.modules" if program == "onnxruntime" else "")
    subprocess.run([sys.executable, "-c", code], cwd=folder, env=environment, check=True)
    return np.load(folder / "found.npy")


@pytest.mark.parametrize("program", ["onnxruntime", "jax"])
def test_the_card_predicts_as_the_predictor(folder: Path, model: SavedModel, tmp_path: Path, program: str) -> None:
    shutil.copytree(folder, tmp_path / "downloaded")
    signal = noise(4.0)
    write_recording(tmp_path / "downloaded" / "speech.wav", signal)
    expected = Predictor(model)(signal, 16_000)
    # Its frames come from another Fourier transform of float32.
    found = run_the_card(tmp_path / "downloaded", program)
    np.testing.assert_allclose(found, list(expected.attributes.values()), rtol=0, atol=1e-3)


def test_the_card_takes_the_channel_and_the_mean_of_the_model(tmp_path: Path) -> None:
    model = small_model(("arousal",), audio=AudioConfig(channel=2, remove_dc=True))
    save_model(tmp_path / "model", model)
    export_to = ["--output", str(tmp_path / "out"), "--format", "onnx", "--quiet"]
    call(command, "--checkpoint", str(tmp_path / "model"), *export_to)
    signal = np.stack([noise(2.0, seed=1), 0.2 + noise(2.0, seed=2)])
    write_recording(tmp_path / "out" / "speech.wav", signal)
    expected = Predictor(model)(signal, 16_000)
    found = run_the_card(tmp_path / "out", "onnxruntime")
    np.testing.assert_allclose(found, list(expected.attributes.values()), rtol=0, atol=1e-3)


def test_the_card_of_given_features_reads_them(tmp_path: Path) -> None:
    model = small_model(("arousal",), features=GivenFeatures(24, 50.0))
    save_model(tmp_path / "model", model)
    export_to = ["--output", str(tmp_path / "out"), "--format", "stablehlo", "--quiet"]
    call(command, "--checkpoint", str(tmp_path / "model"), *export_to)
    frames = np.random.default_rng(0).normal(size=(140, 24)).astype(np.float32)
    np.save(tmp_path / "out" / "speech.npy", frames)
    expected = Predictor(model)(frames, 50)
    found = run_the_card(tmp_path / "out", "jax")
    np.testing.assert_allclose(found, list(expected.attributes.values()), rtol=0, atol=1e-4)  # sums in another order


def test_a_model_with_further_inputs_and_its_card(tmp_path: Path) -> None:
    inputs = FurtherInput("face", 3, 25.0), FurtherInput("text", 6)
    plain = small_model(("arousal",))
    config = dataclasses.replace(plain.config, inputs=("face", "text"))
    random = np.random.default_rng(2)
    drawn = jax.tree.map(
        lambda leaf: random.normal(0, leaf.ndim and leaf.shape[0] ** -0.5, leaf.shape).astype(np.float32),
        variables_of(config, plain.features, inputs)["params"]["fusion"],
    )
    statistics = {
        name: {"mean": np.full(size, 5, np.float32), "std": np.ones(size, np.float32)}
        for name, size in (("face", 3), ("text", 6))
    }
    face = {"encoder": plain.variables["batch_stats"]["encoder"], **statistics["face"]}
    variables = {
        "params": {**plain.variables["params"], "fusion": drawn},
        "batch_stats": {
            **plain.variables["batch_stats"],
            "fusion": {"encoder_face": face, "encoder_text": statistics["text"]},
        },
    }
    model = dataclasses.replace(plain, config=config, inputs=inputs, variables=variables)
    with pytest.raises(
        InputError, match="`formats=onnx` cannot hold a model that reads face, text besides audio; give"
    ):
        check_request(tmp_path / "out", ["onnx"], model)
    save_model(tmp_path / "model", model)
    export_to = ["--output", str(tmp_path / "out"), "--format", "stablehlo", "safetensors", "--quiet"]
    call(command, "--checkpoint", str(tmp_path / "model"), *export_to)
    described = json.loads((tmp_path / "out" / "config.json").read_text())["input"]
    assert list(described) == ["chunks", "face", "face_present", "text", "text_present"]
    assert described["face"]["shape"] == ["n / 11", 11, 25, 3]

    signal, frames, vector = noise(3.0), random.normal(5, 1, (75, 3)), random.normal(5, 1, 6)
    write_recording(tmp_path / "out" / "speech.wav", signal)
    np.save(tmp_path / "out" / "face.npy", frames)
    np.save(tmp_path / "out" / "text.npy", vector)
    predictor = Predictor(model)
    expected = predictor(signal, 16_000, {"face": frames, "text": vector})
    found = run_the_card(tmp_path / "out", "jax")
    np.testing.assert_allclose(found, list(expected.attributes.values()), rtol=0, atol=1e-3)
    # The numbers of both inputs count.
    for other in (
        {"face": 1 + frames, "text": vector},
        {"face": frames, "text": 1 + vector},
        {"face": None, "text": vector},
    ):
        assert abs(predictor(signal, 16_000, other).attributes["arousal"] - expected.attributes["arousal"]) > 1e-3


def test_the_card_names_only_what_was_exported(model: SavedModel, tmp_path: Path) -> None:
    save_model(tmp_path / "model", model)
    for wanted, parts in (("onnx", ["onnxruntime"]), ("stablehlo", ["from jax import export"]), ("safetensors", [])):
        out = tmp_path / wanted
        call(command, "--checkpoint", str(tmp_path / "model"), "--output", str(out), "--format", wanted, "--quiet")
        card = (out / "README.md").read_text()
        assert set(re.findall(r"model\.(\w+)", card)) == {wanted}
        assert all(part in card for part in parts)


def test_an_export_is_not_loaded_as_a_model(folder: Path) -> None:
    with pytest.raises(
        InputError, match=r"is an export, .* README\.md tells how to run it; .* give the model directory"
    ):
        load_model(folder)
