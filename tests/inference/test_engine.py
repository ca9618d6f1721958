from __future__ import annotations

import dataclasses
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import emocluster_jax
from emocluster_jax.clustering.embedding_transform import EmbeddingTransform
from emocluster_jax.config import ClusteringConfig, Engine, SystemName
from emocluster_jax.errors import InputError
from emocluster_jax.inference import engine, onnx_graph
from emocluster_jax.inference.engine import OnnxNetwork, runs_on_onnx
from emocluster_jax.inference.model_directory import SavedModel, save_model
from emocluster_jax.inference.predictor import Prediction, Predictor
from small_models import noise, small_model, write_recording

for package in ("onnx", "onnxruntime"):
    pytest.importorskip(package, reason=f'{package} is not installed; pip install "emocluster_jax[onnx]"')

# Float32 sums in another order, through nine layers; attributes and embeddings here are of the order of 1.
ROUNDING = 1e-4


def projected() -> SavedModel:
    """With principal components of unit length."""
    random = np.random.default_rng(1)
    projection = EmbeddingTransform(*(random.normal(size=shape).astype(np.float32) for shape in (32, (32, 8))))
    centroids = random.normal(size=(5, 8)).astype(np.float32)
    return small_model(transform=projection, centroids=centroids, clustering=ClusteringConfig(l2_normalize=True))


def chunks(recordings: int = 4) -> np.ndarray:
    drawn = np.random.default_rng(2).normal(0, 1.5, (11 * recordings, 62, 128))
    return drawn.clip(-3, 3).astype(np.float32)


def by_both(model: SavedModel, recordings: int = 4) -> tuple[list[Prediction], list[Prediction]]:
    one, other = (Predictor(model, engine=name).predict_chunks(chunks(recordings)) for name in ("jax", "onnx"))
    return one, other


@pytest.mark.parametrize(
    "model",
    [
        pytest.param(lambda: small_model(("arousal", "valence")), id="centroids"),
        pytest.param(projected, id="projected"),
        pytest.param(lambda: small_model(centroids=None), id="logits"),
        pytest.param(lambda: small_model(system="cnn_regressor"), id="regressor"),
        pytest.param(lambda: small_model(system="emocluster_triplet"), id="triplets"),
        pytest.param(lambda: small_model(system="cnn_vae"), id="code"),
        pytest.param(lambda: small_model(label_mean=unknown(), label_std=unknown()), id="no labels"),
    ],
)
def test_both_engines_predict_the_same(model: Callable[[], SavedModel]) -> None:
    for one, other in zip(*by_both(model()), strict=True):
        np.testing.assert_allclose(other.chunk_attributes, one.chunk_attributes, rtol=0, atol=ROUNDING)
        np.testing.assert_allclose(other.chunk_embeddings, one.chunk_embeddings, rtol=0, atol=ROUNDING)
        np.testing.assert_array_equal(other.chunk_clusters, one.chunk_clusters)
        assert np.ptp(one.chunk_embeddings, axis=0).max() > 100 * ROUNDING  # or it would say little


def unknown() -> np.ndarray:
    return np.full(1, np.nan, np.float32)


def test_a_model_in_bfloat16_predicts_in_float32_on_both() -> None:
    model = small_model()
    one, other = by_both(dataclasses.replace(model, config=dataclasses.replace(model.config, compute_dtype="bfloat16")))
    np.testing.assert_allclose(other[0].chunk_attributes, one[0].chunk_attributes, rtol=0, atol=ROUNDING)


def test_the_first_outputs_are_compared_with_those_of_jax(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_graph, "NORM_EPSILON", 0.1)
    with pytest.raises(InputError, match=r"ONNX Runtime: .* differ from the model's by .*; give `engine=jax`"):
        Predictor(small_model(), engine="onnx").predict_chunks(chunks(1))


@pytest.mark.parametrize("kept", [["centroids"], []])
def test_equal_distances_may_be_decided_either_way(kept: list[str]) -> None:
    model = small_model() if kept else small_model(centroids=None)
    head = model.variables["params"]["cluster_classifier"]["output"]
    twins = small_model(centroids=np.zeros((5, 32), np.float32)) if kept else model
    if not kept:
        head["kernel"], head["bias"] = np.zeros_like(head["kernel"]), np.zeros_like(head["bias"])

    def decided_otherwise(model: SavedModel) -> OnnxNetwork:
        network = OnnxNetwork(model)
        session = network._session
        network._session = lambda inputs: session(inputs) | {"clusters": np.full(11, 4, np.int32)}
        return network

    assert set(np.asarray(decided_otherwise(twins)({"audio": chunks(1)[None]}).clusters)) == {4}
    with pytest.raises(InputError, match="clusters differ"):
        decided_otherwise(small_model(seed=1))({"audio": chunks(1)[None]})


def test_auto_takes_what_is_installed_and_can_run_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    model, across_chunks = small_model(), small_model(seed=1)
    assert runs_on_onnx("auto", model) and not runs_on_onnx("jax", model)
    monkeypatch.setattr(engine, "not_as_graph", lambda given: "it" if given is across_chunks else None)
    assert not runs_on_onnx("auto", across_chunks)
    with pytest.raises(InputError, match="`engine=onnx` cannot run it; give `engine=jax`"):
        Predictor(across_chunks, engine="onnx")
    monkeypatch.setattr(engine, "find_spec", lambda name: None if name == "onnxruntime" else True)
    assert not runs_on_onnx("auto", model)
    with pytest.raises(InputError, match=r'`engine=onnx` needs onnxruntime: pip install "emocluster_jax\[onnx\]"'):
        Predictor(model, engine="onnx")


@pytest.mark.parametrize("system", ["emocluster_gru", "emocluster_cnn", "emocluster_transformer"])
def test_networks_that_look_across_chunks_stay_with_jax(system: SystemName) -> None:
    model = small_model(system=system)
    assert not runs_on_onnx("auto", model)
    with pytest.raises(InputError, match="cannot run a model that looks across chunks; give `engine=jax`"):
        Predictor(model, engine="onnx")


@pytest.mark.parametrize("name", ["jax", "onnx"])
def test_recordings_by_either_engine(name: Engine, tmp_path: Path) -> None:
    save_model(tmp_path / "model", small_model())
    recording = write_recording(tmp_path / "a.wav", noise(3.0))

    found = emocluster_jax.predict(tmp_path / "model", recording, engine=name)

    predictor = emocluster_jax.load_model(tmp_path / "model", name)
    alone = predictor(noise(3.0), 16_000).attributes["arousal"]
    assert found.attributes["arousal"][0] == pytest.approx(alone, abs=ROUNDING)
    with pytest.raises(InputError, match="models that are loaded have theirs; give it to `load_model`"):
        emocluster_jax.predict(predictor, recording, engine="jax")
    sent = pickle.loads(pickle.dumps(predictor))
    assert sent(noise(3.0), 16_000).attributes["arousal"] == pytest.approx(alone, abs=ROUNDING)
