"""The convolutions against `lax.conv_general_dilated` under ordinary batch normalisation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export, lax

from emocluster_jax.models.convolution import conv3x3, folded_conv3x3, relu_conv3x3, transposed_conv3x3
from emocluster_jax.runtime.platforms import for_every_platform

# Both sides compute in float32 and differ in the order of their sums alone: at most a few thousand terms, and rounding
# grows about as their square root, so some 1e-6 of the array's norm is expected.
RELATIVE_NORM = 1e-5


def reference(x, multiplier, offset, kernel, stride):
    if multiplier is not None:
        x = jax.nn.relu(x * multiplier + offset).astype(x.dtype)
    y = lax.conv_general_dilated(
        x, kernel, (stride, stride), ((1, 1), (1, 1)), dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    wide = y.astype(jnp.float32)
    return y, wide.mean((0, 1, 2)), jnp.square(wide).mean((0, 1, 2))


def convolved(x, multiplier, offset, kernel, stride):
    return conv3x3(x, kernel, stride) if multiplier is None else relu_conv3x3(x, multiplier, offset, kernel, stride)


def normal(shape, seed=0):
    """NumPy's draws: JAX would compile a generator for every shape."""
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape, np.float32))


def arguments(shape, c_out, seed=0):
    c_in = shape[-1]
    return (
        normal(shape, seed),
        1 + 0.3 * normal(c_in, seed + 1),
        0.3 * normal(c_in, seed + 2),
        normal((3, 3, c_in, c_out), seed + 3) / np.float32(3 * c_in**0.5),
    )


def assert_close(actual, expected, tolerance=RELATIVE_NORM):
    for a, e in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        assert a.shape == e.shape and a.dtype == e.dtype
        a, e = np.asarray(a, np.float64), np.asarray(e, np.float64)
        assert np.linalg.norm(a - e) <= tolerance * np.linalg.norm(e)


def with_gradients(function, stride, *args):
    """The outputs and, for random cotangents of all three outputs, the gradients of all arguments."""
    shapes = jax.eval_shape(lambda *args: tuple(function(*args, stride)), *args)
    # The moments' cotangents count for as much as the output's, lest an error in them hide in the tolerance.
    sizes = (1, shapes[0].size ** 0.5, shapes[0].size ** 0.5)
    cotangents = tuple(
        (size * normal(y.shape, seed)).astype(y.dtype) for seed, (size, y) in enumerate(zip(sizes, shapes, strict=True))
    )

    def run(args, cotangents):
        out, transpose = jax.vjp(lambda *args: tuple(function(*args, stride)), *args)
        return out, transpose(cotangents)

    return jax.jit(run)(args, cotangents)


LAYERS = [
    ((2, 62, 128, 32), 32, 1),
    ((2, 62, 128, 32), 64, 2),
    ((2, 31, 64, 64), 64, 2),
    ((2, 16, 32, 64), 128, 2),
    ((2, 8, 16, 128), 128, 2),
    ((2, 4, 8, 128), 128, 2),
]
ODD_SIZES = [((3, h, w, 5), 7, stride) for h, w in [(1, 1), (5, 7), (6, 9), (7, 4), (2, 1)] for stride in (1, 2)]
# More images than one group holds, and some left over.
GROUPS = [((5, 40, 60, 3), 4, 1), ((21, 40, 60, 3), 4, 2)]


@pytest.mark.parametrize(("shape", "c_out", "stride"), LAYERS + ODD_SIZES + GROUPS)
def test_relu_conv3x3_equals_the_plain_convolution_forward_and_backward(shape, c_out, stride):
    args = arguments(shape, c_out)
    assert_close(with_gradients(convolved, stride, *args), with_gradients(reference, stride, *args))


@pytest.mark.parametrize(
    ("shape", "c_out", "stride"),
    [((2, 62, 128, 1), 32, 1), ((2, 62, 128, 1), 8, 1), ((3, 5, 7, 2), 4, 1), ((3, 6, 5, 2), 4, 2), *GROUPS],
)
def test_conv3x3_equals_the_plain_convolution_forward_and_backward(shape, c_out, stride):
    x, _, _, kernel = arguments(shape, c_out)

    def without_normalisation(function):
        return with_gradients(lambda x, kernel, stride: function(x, None, None, kernel, stride), stride, x, kernel)

    assert_close(without_normalisation(convolved), without_normalisation(reference))


@pytest.mark.parametrize(
    ("shape", "channels", "stride"),
    [
        ((62, 128), (1, 32), 1),
        ((62, 128), (32, 64), 2),
        ((31, 64), (64, 64), 2),
        *[((h, w), (5, 7), stride) for h, w in [(1, 1), (5, 7), (6, 9), (7, 4), (2, 1)] for stride in (1, 2)],
        ((40, 60), (3, 4), 2),
    ],
)
def test_transposed_conv3x3_equals_the_dilated_convolution_forward_and_backward(shape, channels, stride):
    c_out, c_in = channels
    x = normal((5, *(-(-size // stride) for size in shape), c_in))
    kernel = normal((3, 3, c_out, c_in), 1) / np.float32(3 * c_in**0.5)

    def dilated(x, kernel, stride):
        y = lax.conv_general_dilated(
            x,
            kernel[::-1, ::-1],
            (1, 1),
            [(1, size - (now - 1) * stride) for size, now in zip(shape, x.shape[1:3], strict=True)],
            lhs_dilation=(stride, stride),
            dimension_numbers=("NHWC", "HWOI", "NHWC"),
        )
        return y, y.mean((0, 1, 2)), jnp.square(y).mean((0, 1, 2))

    def ours(x, kernel, stride):
        return transposed_conv3x3(x, kernel, stride, shape)

    assert_close(with_gradients(ours, stride, x, kernel), with_gradients(dilated, stride, x, kernel))


@pytest.mark.parametrize(
    ("shape", "c_out", "stride"), [((2, 62, 128, 1), 32, 1), ((3, 5, 7, 1), 4, 2), ((2, 6, 9, 5), 7, 1), LAYERS[2]]
)
def test_folded_conv3x3_equals_the_plain_convolution(shape, c_out, stride):
    x, _, _, kernel = arguments(shape, c_out)
    bias = 0.3 * normal(c_out, 4)

    def plain(x, kernel, bias, stride):
        return (jax.nn.relu(reference(x, None, None, kernel, stride)[0] + bias),) * 3

    def folded(x, kernel, bias, stride):
        return (folded_conv3x3(x, kernel, bias, stride),) * 3

    expected = with_gradients(plain, stride, x, kernel, bias)
    assert_close(with_gradients(folded, stride, x, kernel, bias), expected)
    # Its gradients are not compared: where rounding to 8 bits changes a sign before ReLU, they are others altogether.
    narrow = folded_conv3x3(x.astype(jnp.bfloat16), kernel.astype(jnp.bfloat16), bias, stride)
    assert narrow.dtype == jnp.bfloat16
    assert_close(narrow.astype(jnp.float32), expected[0][0], tolerance=2e-2)


def two_layers(convolution, axis_name=None):
    """A loss over conv, batch normalisation, ReLU, conv, batch normalisation, as an encoder chains them."""

    def loss(parameters, x):
        args = (x, None, None)
        for kernel, scale, bias in parameters:
            y, *moments = convolution(*args, kernel, 2)
            mean, mean_square = moments if axis_name is None else lax.pmean(moments, axis_name)
            multiplier = scale * lax.rsqrt(mean_square - mean**2 + 1e-5)
            args = (y, multiplier, bias - mean * multiplier)
        y, multiplier, offset = args
        return (jax.nn.relu(y * multiplier + offset) * jnp.arange(y.shape[-1])).mean()

    return loss


def two_layers_parameters():
    first, second = arguments((1, 1, 1, 1), 4, seed=1), arguments((1, 1, 1, 4), 6, seed=2)
    return [
        (
            first[3],
            jnp.asarray(np.linspace(0.5, 1.5, 4, dtype=np.float32)),
            jnp.asarray(np.linspace(-0.2, 0.2, 4, dtype=np.float32)),
        ),
        (
            second[3],
            jnp.asarray(np.linspace(0.5, 1.5, 6, dtype=np.float32)),
            jnp.asarray(np.linspace(-0.2, 0.2, 6, dtype=np.float32)),
        ),
    ]


def test_gradients_flow_through_batch_statistics():
    parameters, x = two_layers_parameters(), normal((6, 11, 14, 1))
    actual = jax.jit(jax.value_and_grad(two_layers(convolved)))(parameters, x)
    assert_close(actual, jax.jit(jax.value_and_grad(two_layers(reference)))(parameters, x), tolerance=1e-4)


def test_statistics_shared_over_a_mapped_axis_equal_those_of_the_whole_batch():
    parameters, x = two_layers_parameters(), normal((6, 11, 14, 1))

    def shared(parameters, x):
        return lax.pmean(jax.value_and_grad(two_layers(convolved, "shards"))(parameters, x), "shards")

    actual = jax.jit(jax.vmap(shared, in_axes=(None, 0), axis_name="shards", out_axes=None))(
        parameters, x.reshape(3, 2, 11, 14, 1)
    )
    assert_close(actual, jax.jit(jax.value_and_grad(two_layers(reference)))(parameters, x), tolerance=1e-4)


def test_works_inside_a_scan_over_training_steps():
    x = normal((6, 11, 14, 1))

    def train(convolution):
        def step(parameters, _):
            gradients = jax.grad(two_layers(convolution))(parameters, x)
            return jax.tree.map(lambda p, g: p - 0.1 * g, parameters, gradients), None

        return jax.jit(lambda parameters: lax.scan(step, parameters, length=3)[0])

    parameters = two_layers_parameters()
    assert_close(train(convolved)(parameters), train(reference)(parameters), tolerance=1e-4)


@pytest.mark.parametrize("stride", [1, 2])
def test_bfloat16_runs_the_plain_convolution_with_float32_moments(stride):
    x, multiplier, offset, kernel = arguments((3, 6, 9, 5), 7)
    args = (x.astype(jnp.bfloat16), multiplier, offset, kernel.astype(jnp.bfloat16))
    actual = with_gradients(convolved, stride, *args)
    assert actual[0][1].dtype == jnp.float32
    # bfloat16 keeps 8 bits; the gradients' sums round differently where XLA fuses differently.
    assert_close(actual, with_gradients(reference, stride, *args), tolerance=2e-2)


def test_lowers_for_every_platform_on_a_machine_without_them():
    parameters, x = two_layers_parameters(), jnp.zeros((3, 11, 14, 1))
    loss = two_layers(convolved)
    with for_every_platform():
        for function in (loss, jax.value_and_grad(loss)):
            exported = export.export(jax.jit(function), platforms=["cpu", "cuda", "tpu"])(parameters, x)
            assert "stablehlo.convolution" in exported.mlir_module()
    on_cpu = export.export(jax.jit(jax.value_and_grad(loss)), platforms=["cpu"])(parameters, x)
    assert "stablehlo.dot_general" in on_cpu.mlir_module()


def test_names_the_stride_and_the_dtypes_it_refuses():
    x, _, _, kernel = arguments((1, 4, 4, 2), 2)
    with pytest.raises(ValueError, match="stride is 3"):
        conv3x3(x, kernel, 3)
    with pytest.raises(ValueError, match="x is bfloat16 and the kernel float32"):
        conv3x3(x.astype(jnp.bfloat16), kernel, 1)
    with pytest.raises(ValueError, match=r"a convolution of stride 2 does not turn \(9, 8\) into \(4, 4\)"):
        transposed_conv3x3(x, kernel, 2, (9, 8))
