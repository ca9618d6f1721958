"""Networks over a recording's chunks, and the triplet loss, against PyTorch's with the same weights.

The weights go the way of published ones, which `interop` reads by PyTorch's names. Products are sums of 256 float32
numbers in another order, of outputs of the order of 1: 1e-5 is some hundred roundings.
"""

from __future__ import annotations

import importlib.util
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import unflatten_dict

from emocluster_jax.config import EmoClusterName, ModelConfig
from emocluster_jax.interop.published_temporal import temporal_variables
from emocluster_jax.models.emocluster_cnn import ChunkConvolutions
from emocluster_jax.models.emocluster_gru import BidirectionalGru
from emocluster_jax.models.emocluster_transformer import TransformerLayer
from emocluster_jax.models.registry import NETWORKS, network_of
from emocluster_jax.objectives.losses import triplet_margin_loss
from small_models import small_model
from small_training import FEATURES

needs_torch = pytest.mark.skipif(
    importlib.util.find_spec("torch") is None, reason='PyTorch is not installed; pip install "emocluster_jax[import]"'
)
ROUNDING = 1e-5
ACROSS: tuple[EmoClusterName, ...] = ("emocluster_gru", "emocluster_cnn", "emocluster_transformer")
SHARED = np.random.default_rng(0).normal(size=(3, 11, 256)).astype(np.float32).clip(min=0)
"""Three recordings, rectified as the shared layer's outputs are."""


def variables_of(system: EmoClusterName, module: Any) -> dict[str, Any]:
    """A PyTorch module's weights as the Flax variables of our temporal network."""
    arrays = {f"temporal_net.{name}": tensor.numpy() for name, tensor in module.state_dict().items()}
    nested = unflatten_dict(temporal_variables(system, arrays))
    return {collection: inside["temporal"] for collection, inside in nested.items()}


def drawn(module: Any, deviation: float) -> Any:
    """The module with all of its floating-point arrays drawn anew, biases and moments too."""
    import torch

    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, tensor in module.state_dict().items():
            if tensor.is_floating_point():
                values = deviation * torch.randn(tensor.shape, generator=generator)
                tensor.copy_(1 + values.abs() if "var" in name else values)
    return module


def in_training(module: nn.Module, variables: Any) -> tuple[np.ndarray, Any]:
    """Outputs and new running statistics, without dropout."""
    output, updated = module.apply(variables, jnp.asarray(SHARED), train=True, mutable=["batch_stats"])
    return np.asarray(output), updated["batch_stats"]


@needs_torch
def test_the_gru_is_that_of_pytorch() -> None:
    import torch

    theirs = drawn(torch.nn.GRU(256, 128, batch_first=True, bidirectional=True), 0.1)
    expected, _ = theirs(torch.from_numpy(SHARED))
    found = BidirectionalGru().apply(variables_of("emocluster_gru", theirs), jnp.asarray(SHARED))
    assert np.ptp(expected.detach().numpy()) > 1
    np.testing.assert_allclose(found, expected.detach(), rtol=0, atol=ROUNDING)


@needs_torch
def test_the_convolutions_are_those_of_pytorch() -> None:
    import torch

    first, second = torch.nn.Conv2d(1, 16, 5, padding=2), torch.nn.Conv2d(16, 1, 5, padding=2)
    relu, norms = torch.nn.ReLU(), (torch.nn.BatchNorm2d(16), torch.nn.BatchNorm2d(1))
    theirs = drawn(torch.nn.Sequential(first, norms[0], relu, second, norms[1], relu), 0.3)
    with torch.no_grad():
        for norm in norms:
            norm.weight += 1  # of outputs of the order of 1,
            norm.bias += 1  # most of them above 0
    variables = variables_of("emocluster_cnn", theirs)
    ours = ChunkConvolutions(ModelConfig(temporal_dropout_rate=0.0))
    images = torch.from_numpy(SHARED)[:, None]

    expected = theirs.eval()(images)[:, 0].detach().numpy()
    assert np.ptp(expected) > 1
    np.testing.assert_allclose(ours.apply(variables, jnp.asarray(SHARED), train=False), expected, rtol=0, atol=ROUNDING)

    expected = theirs.train()(images)[:, 0].detach().numpy()
    output, running = in_training(ours, variables)
    np.testing.assert_allclose(output, expected, rtol=0, atol=ROUNDING)
    # Theirs has the convolution's bias in its mean; ours are variances of the batch, theirs of the population.
    mean = (norms[1].running_mean - second.bias).detach()
    np.testing.assert_allclose(running["norm_1"]["mean"], mean, rtol=0, atol=ROUNDING)
    np.testing.assert_allclose(running["norm_1"]["var"], norms[1].running_var, rtol=2 / SHARED.size + 1e-5)


@needs_torch
def test_the_transformer_is_that_of_pytorch() -> None:
    import torch

    layer = torch.nn.TransformerEncoderLayer(256, nhead=1, dim_feedforward=256, dropout=0.3, batch_first=True)
    theirs = drawn(layer, 0.05).eval()
    # By the definition, place after place: sine and cosine in turn.
    places = np.zeros((11, 256), np.float32)
    for place in range(11):
        for pair in range(128):
            angle = place / 10_000 ** (2 * pair / 256)
            places[place, 2 * pair : 2 * pair + 2] = np.sin(angle), np.cos(angle)
    with torch.no_grad():
        for norm in (theirs.norm1, theirs.norm2):
            norm.weight += 1  # of outputs of the order of 1
        expected = theirs(torch.from_numpy(SHARED + places)).numpy()

    ours = TransformerLayer(ModelConfig())
    found = ours.apply(variables_of("emocluster_transformer", theirs), jnp.asarray(SHARED), train=False)
    assert np.ptp(expected) > 1
    np.testing.assert_allclose(found, expected, rtol=0, atol=ROUNDING)


@needs_torch
def test_the_triplet_loss_is_that_of_pytorch() -> None:
    import torch

    rows = np.random.default_rng(1).normal(0, 0.05, (3, 40, 256)).astype(np.float32)
    tensors = [torch.from_numpy(part).requires_grad_() for part in rows]
    expected = torch.nn.TripletMarginLoss(margin=1.0, p=2)(*tensors)
    expected.backward()
    loss, gradients = jax.value_and_grad(triplet_margin_loss, argnums=(0, 1, 2))(*map(jnp.asarray, rows))
    assert 0.1 < float(loss) < 2
    assert float(loss) == pytest.approx(expected.item(), abs=ROUNDING)
    for ours, theirs in zip(gradients, tensors, strict=True):
        assert theirs.grad is not None
        np.testing.assert_allclose(ours, theirs.grad, rtol=0, atol=ROUNDING)


SMALL = ModelConfig(width_multiplier=0.125)


@pytest.mark.parametrize("scale", [0.0, 1.0, 1e4])
@pytest.mark.parametrize(
    ("network", "given", "train"),
    [
        pytest.param(BidirectionalGru(), {}, {}, id="gru"),
        pytest.param(ChunkConvolutions(SMALL), {"train": False}, {"train": True}, id="cnn"),
        pytest.param(TransformerLayer(SMALL), {"train": False}, {"train": True}, id="transformer"),
    ],
)
def test_gradients_are_finite(network: nn.Module, given: dict, train: dict, scale: float) -> None:
    """Also of chunks that are all zeros, which have no variance."""
    shared = scale * jnp.asarray(SHARED[:, :4, :32])
    variables = network.init(jax.random.key(0), shared, **given)

    def loss(params: Any, shared: jax.Array) -> jax.Array:
        keys = {"dropout": jax.random.key(1)}
        output, _ = network.apply({**variables, "params": params}, shared, rngs=keys, mutable="batch_stats", **train)
        return jnp.mean(output**2)

    gradients = jax.grad(loss, argnums=(0, 1))(variables["params"], shared)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradients))


def test_the_triplet_loss_of_equal_rows_has_a_gradient() -> None:
    """Chunks whose shared layer is all zeros after ReLU."""
    zeros = jnp.zeros((4, 8))
    loss, gradient = jax.value_and_grad(triplet_margin_loss)(zeros, zeros, zeros)
    assert float(loss) == 1.0 and np.isfinite(gradient).all()


@pytest.mark.parametrize("width", [0.125, 0.03])
@pytest.mark.parametrize("system", ACROSS)
def test_every_width_and_number_of_chunks_fits(system: EmoClusterName, width: float) -> None:
    """The shared layer has 32 numbers, or 8; halves of an odd number of them are a GRU's as well."""
    config = ModelConfig(system=system, width_multiplier=width)
    network = network_of(config)
    inputs = {"audio": jnp.zeros((2, 3, 16, 32))}
    output = jax.eval_shape(lambda: network.init_with_output(jax.random.key(0), inputs)[0])
    assert output.attributes.shape == (6, 1) and output.embeddings.shape == (6, max(4, round(256 * width)))


def test_a_gru_of_an_odd_width() -> None:
    shared = jnp.ones((2, 3, 5))
    output, _ = BidirectionalGru().init_with_output(jax.random.key(0), shared)
    assert output.shape == shared.shape


@pytest.mark.parametrize("system", ACROSS)
def test_a_chunk_is_read_with_those_of_its_recording_and_with_no_others(system: EmoClusterName) -> None:
    model, random = small_model(system=system, features=FEATURES), np.random.default_rng(2)
    audio = random.normal(size=(3, 4, 16, 32)).astype(np.float32)
    apply: Any = jax.jit(network_of(model.config).apply)

    def embeddings(audio: np.ndarray) -> np.ndarray:
        return np.asarray(apply(model.variables, {"audio": audio}).embeddings).reshape(3, 4, -1)

    whole = embeddings(audio)
    others = audio.copy()
    others[[0, 2]] = random.normal(size=others[[0, 2]].shape)
    # The same program on the same numbers: to the bit.
    np.testing.assert_array_equal(embeddings(others)[1], whole[1])
    inside = audio.copy()
    inside[1, 3] = random.normal(size=inside[1, 3].shape)
    changed = embeddings(inside)
    assert (changed[1, :3] != whole[1, :3]).any()
    np.testing.assert_array_equal(changed[[0, 2]], whole[[0, 2]])


def test_what_a_system_says_of_itself() -> None:
    for system in (*ACROSS, "emocluster_triplet"):
        network = NETWORKS[system]
        assert network.clusters and network.whole_recordings
        assert network.across_chunks == (system in ACROSS)
