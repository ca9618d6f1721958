"""The compared systems: what they minimise, that they learn, resume to the bit, and predict."""

from __future__ import annotations

import dataclasses
import importlib
from pathlib import Path
from typing import Any, get_args

import flax.linen as nn
import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array

from emocluster_jax.config import (
    AutoencoderConfig,
    LadderConfig,
    ModelConfig,
    OptimizerConfig,
    SystemName,
    TemporalName,
    TrainConfig,
)
from emocluster_jax.console import Console
from emocluster_jax.errors import InputError
from emocluster_jax.feed.split import Inputs
from emocluster_jax.inference.model_directory import read_model
from emocluster_jax.inference.predictor import load_model
from emocluster_jax.models.network import Output
from emocluster_jax.models.registry import NETWORKS, network_of
from emocluster_jax.objectives.emocluster_triplet import draw_triplets
from emocluster_jax.objectives.stage import Batch, stages_of
from emocluster_jax.runtime.loops import StoppedError
from emocluster_jax.training.data import TrainingData
from emocluster_jax.training.loop import fit
from emocluster_jax.training.metrics_log import read_metrics
from emocluster_jax.training.workdir import read_assignments
from small_models import noise
from small_training import MODEL, make_data

COMPARED: tuple[SystemName, ...] = ("cnn_regressor", "cnn_ae", "cnn_vae", "ladder")
ACROSS_CHUNKS: tuple[SystemName, ...] = get_args(TemporalName)
RNG = np.random.default_rng(0)
BATCH = Batch(
    inputs={"audio": jnp.asarray(RNG.normal(size=(8, 1, 16, 32)), jnp.float32)},
    pseudo_labels=None,
    targets=jnp.where(jnp.asarray(RNG.uniform(size=(8, 2)) < 0.8), RNG.normal(size=(8, 2)).astype(np.float32), jnp.nan),
    epochs=jnp.zeros(()),
)


def config(system: SystemName, **changes: Any) -> TrainConfig:
    clusters = MODEL.clusters if NETWORKS[system].clusters else ModelConfig().clusters
    dropout_rate = ModelConfig().dropout_rate if system == "emocluster_triplet" else 0.1  # it has no use for one
    model = dataclasses.replace(MODEL, system=system, dropout_rate=dropout_rate, clusters=clusters)
    return TrainConfig(model=model, batch_size=4, **changes)


class Teller(nn.Module):
    """A network that always says the same."""

    told: Output

    @nn.compact
    def __call__(self, inputs: Inputs, *, train: bool, noise_std: float = 0.0) -> Output:
        self.variable("batch_stats", "calls", lambda: jnp.zeros(())).value += 1
        return self.told


def loss_and_terms(config: TrainConfig, told: Output, batch: Batch = BATCH) -> tuple[float, dict[str, float]]:
    """Of the labelled stage, for a network that says what it is told."""
    objectives = importlib.import_module(f"emocluster_jax.objectives.{config.model.system}")
    stage = objectives.stages(Teller(told), config, None).labeled
    loss, (terms, _) = stage.loss({}, {"calls": jnp.zeros(())}, batch, jax.random.key(0))
    return float(loss), {name: float(value) for name, value in terms.items()}


@pytest.fixture(scope="module")
def told() -> Output:
    def draw(*shape: int) -> Array:
        return jnp.asarray(RNG.normal(size=shape), jnp.float32)

    others = {"log_variance": draw(8, 6), "reconstruction": draw(8, 16, 32), "denoising_costs": jnp.arange(9.0)}
    shared = {"shared": draw(8, 6), "detached_logits": draw(8, 5)}
    return Output(draw(8, 6), draw(8, 2), draw(8, 5), extras=others | shared)


def concordance_loss(predictions: np.ndarray, targets: np.ndarray) -> float:
    """1 - CCC, the mean over the attributes, each of the chunks whose label there is.

    The covariance is divided by N and the variances by N - 1, as in the published training code.
    """
    losses = []
    for x, y in zip(predictions.T, targets.T, strict=True):
        x, y = x[np.isfinite(y)], y[np.isfinite(y)]
        covariance = np.mean((x - x.mean()) * (y - y.mean()))
        losses.append(1 - 2 * covariance / (x.var(ddof=1) + y.var(ddof=1) + (x.mean() - y.mean()) ** 2))
    return float(np.mean(losses))


def divergence_of_normals(mean: np.ndarray, log_variance: np.ndarray) -> float:
    """Of N(mean, variance) from N(0, 1) in nats: summed over the code's dimensions, the mean over the chunks."""
    variance = np.exp(log_variance)
    return float(np.mean(np.sum((variance + mean**2 - 1 - np.log(variance)) / 2, axis=1)))


def test_the_weight_of_the_clusters_is_for_the_encoder() -> None:
    """Its gradient is linear in the weight; that of the classifier, which nothing else trains, is always whole."""
    network = network_of(MODEL)
    batch = BATCH._replace(pseudo_labels=jnp.arange(8) % MODEL.clusters, epochs=jnp.asarray(1.0))
    variables = network.init(jax.random.key(0), batch.inputs)

    def gradient(unlabeled: bool, **settings: float) -> Any:
        both = stages_of(TrainConfig(model=MODEL).replace(**settings))
        stage = both.unlabeled if unlabeled else both.labeled
        assert stage is not None
        found = jax.grad(stage.loss, has_aux=True)(
            variables["params"], variables["batch_stats"], batch, jax.random.key(1)
        )[0]
        return jax.tree.map(np.asarray, found)

    # Sums in float32, in another order: relative to the largest number of a layer.
    def assert_close(ours: Any, others: Any) -> None:
        for one, other in zip(jax.tree.leaves(ours), jax.tree.leaves(others), strict=True):
            np.testing.assert_allclose(one, other, rtol=0, atol=2e-5 * max(np.abs(other).max(), 1e-6))

    for unlabeled in (True, False):
        whole, half = gradient(unlabeled), gradient(unlabeled, cluster_weight=0.5)
        none = gradient(unlabeled, cluster_weight=0.0)
        ramped = gradient(unlabeled, cluster_warmup_epochs=2.0)
        mean = jax.tree.map(lambda a, b: (a + b) / 2, whole["encoder"], none["encoder"])
        assert_close(half["encoder"], mean)
        assert_close(ramped["encoder"], mean)
        for other in (half, none, ramped):
            assert_close(other["cluster_classifier"], whole["cluster_classifier"])
        moved = np.abs(jax.flatten_util.ravel_pytree(none["encoder"])[0]).max()
        assert (moved == 0) == unlabeled


def test_what_the_systems_minimise(told: Output) -> None:
    # Written out in NumPy, in double precision but for the inputs.
    attributes, targets, reconstruction, chunks, means, log_variance = (
        np.asarray(values, np.float64)
        for values in (
            told.attributes,
            BATCH.targets,
            told.extras["reconstruction"],
            BATCH.chunks,
            told.embeddings,
            told.extras["log_variance"],
        )
    )
    concordance = concordance_loss(attributes, targets)
    error = float(np.mean((reconstruction - chunks) ** 2))
    divergence = divergence_of_normals(means, log_variance) / (16 * 32)
    weights = AutoencoderConfig(reconstruction_weight=2.0, kl_weight=3.0, kl_warmup_epochs=4.0)

    loss, terms = loss_and_terms(config("cnn_regressor"), told)
    assert loss == terms["ccc_loss"] == pytest.approx(concordance, rel=1e-5)

    only_error = dataclasses.replace(AutoencoderConfig(), reconstruction_weight=2.0)
    loss, terms = loss_and_terms(config("cnn_ae", autoencoder=only_error, ccc_weight=0.5), told)
    assert loss == pytest.approx(2 * error + 0.5 * concordance, rel=1e-5)
    assert terms == pytest.approx({"reconstruction": error, "ccc_loss": concordance}, rel=1e-5)

    for epochs, share in ((0.0, 0.0), (1.0, 0.25), (4.0, 1.0), (9.0, 1.0)):
        batch = BATCH._replace(epochs=jnp.asarray(epochs))
        loss, terms = loss_and_terms(config("cnn_vae", autoencoder=weights), told, batch)
        assert loss == pytest.approx(2 * error + 3 * share * divergence + concordance, rel=1e-5)
        assert terms["kl"] == pytest.approx(divergence, rel=1e-5)

    levels = LadderConfig(denoising_weights=tuple(float(2**level) for level in range(9)))
    loss, terms = loss_and_terms(config("ladder", ladder=levels), told)
    denoising = sum(2**level * level for level in range(9))
    assert terms["denoising"] == pytest.approx(denoising) and loss == pytest.approx(denoising + concordance, rel=1e-6)


def test_triplets_are_a_part_of_what_is_minimised(told: Output) -> None:
    key = jax.random.key(3)
    inputs = {"audio": BATCH.inputs["audio"].reshape(2, 4, 16, 32)}  # two recordings
    batch = BATCH._replace(inputs=inputs, pseudo_labels=jnp.arange(8) % 5, key=key)
    plain, _ = loss_and_terms(config("emocluster"), told, batch)
    loss, terms = loss_and_terms(config("emocluster_triplet", triplet_weight=0.5), told, batch)

    shared = np.asarray(told.extras["shared"], np.float64).reshape(2, 4, 6)
    losses = []
    for anchor, positive, negative in np.asarray(draw_triplets(key, 4)):
        for recording in shared:
            near, far = (np.linalg.norm(recording[anchor] - recording[i]) for i in (positive, negative))
            losses.append(max(0.0, near - far + 1))
    assert len(losses) == 20 and np.mean(losses) > 0
    assert terms["triplet"] == pytest.approx(np.mean(losses), rel=1e-5)
    assert loss == pytest.approx(plain + 0.5 * np.mean(losses), rel=1e-5)


def test_recordings_of_too_few_chunks_are_refused(data: TrainingData, tmp_path: Path) -> None:
    few = dataclasses.replace(data, features=dataclasses.replace(data.features, chunks_per_utterance=3))
    with pytest.raises(InputError, match="needs recordings of 4 chunks or more, and these have 3"):
        fit(config("emocluster_triplet"), few, tmp_path, Console(quiet=True))


FAST = {"optimizer": OptimizerConfig(adam_learning_rate=0.005)}


@pytest.fixture(scope="module")
def data() -> TrainingData:
    return make_data()


def used(system: SystemName, data: TrainingData) -> TrainingData:
    """The pool goes to one of the systems that take it, whose compilation then takes twice as long."""
    return data if system in ("cnn_ae", "cnn_regressor") else dataclasses.replace(data, unlabeled=None)


@pytest.fixture(scope="module", params=(*COMPARED, *ACROSS_CHUNKS))
def run(request: pytest.FixtureRequest, data: TrainingData, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The work directory of a short run, called like the system."""
    workdir = tmp_path_factory.mktemp("runs") / request.param
    fit(config(request.param, epochs=8, **FAST), used(request.param, data), workdir, Console(quiet=True))
    return workdir


def test_each_learns(run: Path) -> None:
    first, *_, last = read_metrics(run / "metrics.jsonl")
    # Clusters are made anew in each epoch, and with them what their classifier has to learn.
    losses = [name for name in first if name.startswith("stage") and not name.endswith(("_kl", "_cross_entropy"))]
    assert any(name.startswith("stage1") for name in losses) == (run.name == "cnn_ae")
    assert ("stage2_triplet" in losses) == (run.name == "emocluster_triplet")
    for name in ("ccc_loss", *losses):
        assert last[name] < 0.9 * first[name], name
    assert last["validation_ccc"]["arousal"] > 0.5
    clusters = NETWORKS[run.name].clusters
    assert any("cluster" in name or "nmi" in name for name in last) == clusters
    assert (run / "assignments").exists() == clusters


def test_a_model_directory_predicts_attributes_an_embedding_and_its_clusters(run: Path) -> None:
    model = read_model(run / "model")
    assert model.config.system == run.name
    prediction = load_model(run)(noise(2.0), 16_000)
    assert list(prediction.attributes) == ["arousal", "valence"]
    assert prediction.embedding.shape == (32,) and prediction.chunk_embeddings.shape == (4, 32)
    assert np.ptp(prediction.chunk_attributes, axis=0).min() > 0
    if NETWORKS[run.name].clusters:
        assert model.centroids is not None and prediction.chunk_clusters is not None
        assert 0 <= prediction.cluster < 5 and prediction.chunk_clusters.shape == (4,)
    else:
        assert model.centroids is None and prediction.cluster is None and prediction.chunk_clusters is None


def test_a_resumed_run_is_bit_equal(run: Path, data: TrainingData, tmp_path: Path) -> None:
    if run.name != "cnn_vae":
        pytest.skip("one run with noise, dropout and a weight that grows over the epochs stands for all")
    ended: list[int] = []
    settings = config("cnn_vae", epochs=8, **FAST), used("cnn_vae", data), tmp_path, Console(quiet=True)
    with pytest.raises(StoppedError):
        fit(*settings, stop=lambda: len(ended) == 2, after_epoch=lambda: ended.append(1))
    assert len(read_metrics(tmp_path / "metrics.jsonl")) == 2
    fit(*settings)
    lines = [read_metrics(folder / "metrics.jsonl") for folder in (run, tmp_path)]
    for one, other in zip(*lines, strict=True):
        assert one | {"seconds": 0} == other | {"seconds": 0}


def test_unsupervised_stages_of_emocluster(data: TrainingData, tmp_path: Path) -> None:
    run = TrainConfig(model=MODEL, batch_size=4, epochs=2, stages="unsupervised")
    unlabeled, labeled = stages_of(run)
    assert unlabeled is not None and (unlabeled.name, labeled.name) == ("stage1", "stage2")
    progress = fit(run, dataclasses.replace(data, unlabeled=None), tmp_path, Console(quiet=True))
    assert (progress.epoch, progress.best_epoch, progress.best_value) == (2, 2, -np.inf)
    metrics = read_metrics(tmp_path / "metrics.jsonl")[-1]
    assert {"stage2_cross_entropy", "cluster_sizes", "nmi_previous"} <= set(metrics)
    assert "ccc_loss" not in metrics and "validation_ccc" not in metrics
    assignments = read_assignments(tmp_path, 2)
    assert {name: len(clusters) for name, clusters in assignments.items()} == {"stage2": 25 * 4}
    model = read_model(tmp_path / "model")
    assert model.centroids is not None
    # Frozen at the random draw: its biases are still zero.
    assert not model.variables["params"]["attribute_regressor"]["output"]["bias"].any()
