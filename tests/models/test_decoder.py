"""The decoder mirrors the encoder: its shapes, and its numbers against PyTorch's transposed convolutions."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from emocluster_jax.config import ModelConfig
from emocluster_jax.models.cnn_ae import CnnAutoencoder
from emocluster_jax.models.decoder import Decoder
from emocluster_jax.models.encoder import CONVOLUTION_STRIDES, layer_shapes

FRAMES, BANDS = 62, 128


def test_the_published_shapes() -> None:
    assert layer_shapes(FRAMES, BANDS, ModelConfig()) == (
        (62, 128, 1),
        (62, 128, 32),
        (62, 128, 32),
        (31, 64, 64),
        (16, 32, 64),
        (8, 16, 128),
        (4, 8, 128),
        (2, 4, 128),
    )


@pytest.mark.parametrize("width", [1.0, 0.25, 0.01])
@pytest.mark.parametrize("shape", [(FRAMES, BANDS), (16, 32), (7, 1)])
def test_every_kernel_and_the_result_have_the_encoders_shapes(width: float, shape: tuple[int, int]) -> None:
    network = CnnAutoencoder(ModelConfig(width_multiplier=width))
    inputs = {"audio": jax.ShapeDtypeStruct((1, 3, *shape), np.float32)}
    variables: Any = jax.eval_shape(network.init, jax.random.key(0), inputs)
    encoder, decoder = variables["params"]["encoder"], variables["params"]["decoder"]
    for i in range(len(CONVOLUTION_STRIDES)):
        assert decoder[f"convolution_{i}"]["kernel"].shape == encoder[f"convolution_{i}"]["kernel"].shape
    assert decoder["dense"]["kernel"].shape == encoder["shared"]["kernel"].shape[::-1]
    output: Any = jax.eval_shape(network.apply, variables, inputs)
    assert output.extras["reconstruction"].shape == (3, *shape)


def in_torch(functional: Any, params: dict[str, Any], code: Any, config: ModelConfig) -> Any:
    """The decoder in training mode, written with PyTorch's layers (`torch.nn.functional`)."""
    shapes = layer_shapes(FRAMES, BANDS, config)
    dense = params["dense"]
    x = (code @ dense["kernel"] + dense["bias"]).reshape(-1, *shapes[-1]).permute(0, 3, 1, 2)
    for i in reversed(range(7)):
        norm = params[f"norm_{i}"]
        x = functional.relu(functional.batch_norm(x, None, None, norm["scale"], norm["bias"], training=True))
        # (height, width, out, in) -> PyTorch's (in, out, height, width) of a transposed convolution.
        kernel, stride = params[f"convolution_{i}"]["kernel"].permute(3, 2, 0, 1), CONVOLUTION_STRIDES[i]
        missing = [size - ((now - 1) * stride + 1) for size, now in zip(shapes[i][:2], x.shape[2:], strict=True)]
        x = functional.conv_transpose2d(x, kernel, stride=stride, padding=1, output_padding=missing)
    return x[:, 0] + params["bias"]


def test_numbers_and_gradients_are_those_of_pytorch() -> None:
    """Over an axis of three shares of the batch, which `vmap` stands in for; PyTorch sees the whole batch at once."""
    torch = pytest.importorskip("torch")
    config = ModelConfig(width_multiplier=0.125)
    rng = np.random.default_rng(0)
    code, weights = (rng.normal(size=shape).astype(np.float32) for shape in ((6, 32), (6, FRAMES, BANDS)))
    shapes: Any = jax.eval_shape(
        lambda key, code: Decoder(config).init(key, code, FRAMES, BANDS), jax.random.key(0), code
    )
    params = jax.tree.map(lambda leaf: rng.normal(0.3, 1, leaf.shape).astype(np.float32), shapes["params"])

    def loss(params, code, weights):
        variables = {"params": params, "batch_stats": jax.tree.map(jnp.zeros_like, shapes["batch_stats"])}
        decoder = Decoder(config, "shares")
        output, _ = decoder.apply(variables, code, FRAMES, BANDS, train=True, mutable=["batch_stats"])
        return (weights * output).mean(), output

    def share(params, code, weights):
        (_, output), gradients = jax.value_and_grad(loss, has_aux=True)(params, code, weights)
        return output, lax.pmean(gradients, "shares")

    program = jax.jit(jax.vmap(share, in_axes=(None, 0, 0), out_axes=(0, None), axis_name="shares"))
    output, gradients = program(params, code.reshape(3, 2, -1), weights.reshape(3, 2, FRAMES, BANDS))
    theirs = jax.tree.map(lambda leaf: torch.tensor(leaf, requires_grad=True), params)
    expected = in_torch(torch.nn.functional, theirs, torch.tensor(code), config)
    (torch.tensor(weights) * expected).mean().backward()

    # Float32 through eight normalisations, each of which divides by a standard deviation.
    expected = expected.detach().numpy()
    assert np.linalg.norm(output.reshape(expected.shape) - expected) <= 1e-4 * np.linalg.norm(expected)
    for (path, found), tensor in zip(
        jax.tree_util.tree_flatten_with_path(gradients)[0], jax.tree.leaves(theirs), strict=True
    ):
        reference = tensor.grad.numpy()
        # The dense layer's bias adds a constant to whole pixels, most of which the normalisation takes away again.
        assert np.linalg.norm(found - reference) <= 2e-3 * np.linalg.norm(reference) + 1e-8, path
