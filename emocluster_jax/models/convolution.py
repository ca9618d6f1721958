"""3x3 convolutions between batch normalisations, fast forward and backward on every platform.

    first = conv3x3(x, kernel, 1)
    multiplier, offset = ...  from first.mean, first.mean_square, scale and bias
    second = relu_conv3x3(first.pre_activation, multiplier, offset, kernel, 1)

A layer is cut before its batch normalisation: each function takes the previous layer's pre-activation, normalises it
as one multiplication and addition per channel, rectifies, convolves, and returns the new pre-activation with its
moments over the batch. The moments are differentiable like any output, so that between two layers they may pass through
`lax.pmean`. Cut here, a layer is one pass over the memory on a CPU, and normalised activations need not be kept for the
gradient anywhere.

GPUs and TPUs run `lax.conv_general_dilated`, but for the network's input on NVIDIA's GPUs, whose library is slow with
one channel; CPUs, in float32, the matrix products of `convolution_on_cpu`; NVIDIA's GPUs, in bfloat16 and if asked for
(`fused`), the kernels of `convolution_on_gpu`, which are faster in layers that are limited by memory.

Where normalisation needs no moments of the batch, as in evaluation mode, it is part of the convolution before it:
`folded_conv3x3`, for which XLA's own convolutions are the fastest on CPUs, too.
"""

from collections.abc import Callable, Sequence
from functools import partial, reduce
from types import ModuleType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import export, lax
from jaxtyping import Array, Float

from emocluster_jax.models import convolution_on_cpu
from emocluster_jax.models.convolution_on_cpu import Input, Kernel, Output, PerInput
from emocluster_jax.runtime import platforms


class Convolved(NamedTuple):
    """A convolution's output, before batch normalisation, and its moments over images, height and width.

    The variance is mean_square - mean². Moments are float32 also where the output is bfloat16.
    """

    pre_activation: Float[Array, "n h_out w_out c_out"]
    mean: Float[Array, " c_out"]
    mean_square: Float[Array, " c_out"]


def conv3x3(x: Input, kernel: Kernel, stride: int, *, fused: bool = False) -> Convolved:
    """Convolve with padding 1 and stride 1 or 2, without a bias: h_out = ⌈h / stride⌉, w_out = ⌈w / stride⌉.

    For the network's input, where `relu_conv3x3` has nothing to normalise. x and kernel have the same dtype.
    """
    _check(x, kernel, stride)
    return _conv3x3((x, kernel), (stride,), fused)


def relu_conv3x3(
    x: Input, multiplier: PerInput, offset: PerInput, kernel: Kernel, stride: int, *, fused: bool = False
) -> Convolved:
    """Convolve relu(x · multiplier + offset) as `conv3x3` does; x is the previous layer's pre-activation.

    Batch normalisation's multiplier is scale / √(variance + ε), its offset bias - mean · multiplier; both are float32.
    """
    _check(x, kernel, stride)
    return _relu_conv3x3((x, multiplier, offset, kernel), (stride,), fused)


def folded_conv3x3(x: Input, kernel: Kernel, bias: Float[Array, " c_out"], stride: int) -> Output:
    """relu(convolution + bias), with padding 1 and stride 1 or 2, of x and kernel in one dtype and a float32 bias.

    With batch normalisation's multiplier in the kernel and its offset as the bias it is a layer in evaluation mode.
    """
    _check(x, kernel, stride)
    # One channel leaves a matrix product next to nothing to sum up: shifted images are one pass over the output.
    convolve = _shifted_sum if kernel.shape[2] == 1 else _convolve
    return jax.nn.relu(convolve(x, kernel, stride) + bias).astype(x.dtype)


def transposed_conv3x3(
    x: Float[Array, "n h w c_in"], kernel: Float[Array, "3 3 c_out c_in"], stride: int, shape: tuple[int, int]
) -> Convolved:
    """The transpose of `conv3x3` with this kernel and stride: x has the shape of that convolution's output.

    `shape` is the height and width of the result, that is of the convolution's input: h = ⌈height / stride⌉.
    """
    _check(x, kernel, stride)
    if tuple(-(-size // stride) for size in shape) != x.shape[1:3]:
        raise ValueError(f"a convolution of stride {stride} does not turn {shape} into {x.shape[1:3]}")
    return _transposed_conv3x3((x, kernel), (stride, shape), False)


def _check(x: Array, kernel: Array, stride: int) -> None:
    if stride not in (1, 2):
        raise ValueError(f"stride is {stride}; expected 1 or 2")
    if x.dtype != kernel.dtype:
        raise ValueError(f"x is {x.dtype} and the kernel {kernel.dtype}: cast the kernel to the dtype to compute in")


def _convolve(x: Array, kernel: Array, stride: int) -> Array:
    return lax.conv_general_dilated(
        x, kernel, (stride, stride), ((1, 1), (1, 1)), dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def _shifted_sum(x: Array, kernel: Array, stride: int) -> Array:
    """The convolution of images of one channel as a sum of nine shifted images, float32."""
    (h, w), kernel = x.shape[1:3], kernel.astype(jnp.float32)
    padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    taps = [padded[:, i : i + h : stride, j : j + w : stride] * kernel[i, j, 0] for i in range(3) for j in range(3)]
    return reduce(jnp.add, taps)


def _transposed_convolve(x: Array, kernel: Array, stride: int, shape: tuple[int, int]) -> Array:
    image = jax.ShapeDtypeStruct((x.shape[0], *shape, kernel.shape[2]), x.dtype)
    return jax.linear_transpose(lambda image: _convolve(image, kernel, stride), image)(x)[0]


def _relu_convolve(x: Array, multiplier: Array, offset: Array, kernel: Array, stride: int) -> Array:
    return _convolve(jax.nn.relu(x * multiplier + offset).astype(x.dtype), kernel, stride)


def _sums(pre_activation: Array) -> tuple[Array, Array, Array]:
    y = pre_activation.astype(jnp.promote_types(pre_activation.dtype, jnp.float32))
    return pre_activation, y.sum((0, 1, 2)), (y * y).sum((0, 1, 2))


def _pixels(x: Array) -> Any:
    """Height times width times batch; a symbol where the batch is one, as in an export."""
    return x.size // x.shape[-1]


def _by_platform(on_cpu: Callable, elsewhere: Callable, *arrays: Array, on_cuda: Callable | None = None):
    # A program for any number of images, as exported, convolves plainly: loops over groups need a known number.
    if export.is_symbolic_dim(arrays[0].shape[0]):
        return elsewhere(*arrays)
    # Only float32 is worth the matrix products: XLA widens bfloat16 on CPUs that lack it, one operation at a time.
    on_cpu = on_cpu if arrays[0].dtype == jnp.float32 else elsewhere
    return platforms.choose(on_cpu, elsewhere, *arrays, on_cuda=on_cuda)


def _kernels_for(arrays: Sequence[Array], stride: int, fused: bool) -> ModuleType | None:
    """`convolution_on_gpu`, where it is asked for and has kernels for these arrays: the input ... the kernel."""
    x, kernel = arrays[0], arrays[-1]
    if not fused or x.dtype != jnp.bfloat16:
        return None
    from emocluster_jax.models import convolution_on_gpu  # Pallas takes longer to import than most of JAX's users need

    return convolution_on_gpu if convolution_on_gpu.fits(x.shape, kernel.shape[-1], stride) else None


def _input_on_cuda(arrays: Sequence[Array], stride: int, fused: bool) -> Callable | None:
    if kernels := _kernels_for(arrays, stride, fused):
        return partial(kernels.input_forward, stride=stride)
    if arrays[1].shape[2] == 1:
        return lambda x, kernel: _sums(_shifted_sum(x, kernel, stride).astype(x.dtype))
    return None


def _relu_on_cuda(arrays: Sequence[Array], stride: int, fused: bool) -> Callable | None:
    kernels = _kernels_for(arrays, stride, fused)
    return kernels and partial(kernels.relu_forward, stride=stride)


def _differentiable(
    plain: Callable, on_cpu: Callable, gradients: Callable, on_cuda: Callable[..., Callable | None] | None = None
) -> Callable[..., Convolved]:
    """A function (arrays, settings, fused) -> `Convolved` with gradients of its own.

    `plain` is (*arrays, *settings) -> the pre-activation; `on_cpu` also returns its sums and sums of squares per
    channel. `gradients` is (settings, fused, arrays and pre-activation, parts of the cotangent) -> gradients of the
    arrays. `on_cuda` is (arrays, *settings, fused) -> what NVIDIA's GPUs run in place of `plain`, sums included; None
    where they have nothing better.
    """

    @partial(jax.custom_vjp, nondiff_argnums=(1, 2))
    def layer(arrays: tuple[Array, ...], settings: tuple, fused: bool) -> Convolved:
        pre_activation, total, square = _by_platform(
            lambda *arrays: on_cpu(*arrays, *settings),
            lambda *arrays: _sums(plain(*arrays, *settings)),
            *arrays,
            on_cuda=on_cuda and on_cuda(arrays, *settings, fused),
        )
        pixels = _pixels(pre_activation)
        return Convolved(pre_activation, total / pixels, square / pixels)

    def forward(arrays: tuple[Array, ...], settings: tuple, fused: bool):
        out: Any = layer(arrays, settings, fused)
        return out, (*arrays, out.pre_activation)

    def backward(settings: tuple, fused: bool, residuals: tuple[Array, ...], cotangents: Convolved):
        # The cotangent of an output value v is first + second + third * v.
        pixels = _pixels(cotangents.pre_activation)
        parts = cotangents.pre_activation, cotangents.mean / pixels, 2 * cotangents.mean_square / pixels
        return (gradients(settings, fused, residuals, parts),)

    layer.defvjp(forward, backward)
    return layer  # type: ignore[return-value]


def _total_cotangent(pre_activation: Array, cotangent: Array, mean_cotangent: Array, square_cotangent: Array) -> Array:
    return (cotangent + mean_cotangent + square_cotangent * pre_activation).astype(pre_activation.dtype)


def _input_gradients(settings: tuple[int], fused: bool, residuals: tuple[Array, ...], parts: tuple[Array, ...]):
    (stride,), (x, kernel, pre_activation) = settings, residuals

    def kernel_gradient(x, kernel, pre_activation, *parts):
        _, transpose = jax.vjp(lambda kernel: _convolve(x, kernel, stride), kernel)
        return transpose(_total_cotangent(pre_activation, *parts))[0]

    # Apart from the kernel's, so that XLA drops it where x is data and nobody asks for its gradient.
    _, transpose = jax.vjp(lambda x: _convolve(x, kernel, stride), x)
    (x_gradient,) = transpose(_total_cotangent(pre_activation, *parts))
    kernels = _kernels_for((x, kernel), stride, fused)
    on_cuda = kernels and partial(kernels.input_backward, stride=stride)
    on_cpu = partial(convolution_on_cpu.input_backward, stride=stride)
    return x_gradient, _by_platform(on_cpu, kernel_gradient, *residuals, *parts, on_cuda=on_cuda)


def _gradients_of(
    plain: Callable, on_cpu: Callable, on_cuda: Callable | None, settings: tuple, arrays: Sequence[Array]
) -> tuple[Array, ...]:
    """Gradients of the convolution's arrays; `arrays` are also the pre-activation and the parts of its cotangent."""

    def elsewhere(*values):
        *arrays, pre_activation = values[:-3]
        _, transpose = jax.vjp(lambda *arrays: plain(*arrays, *settings), *arrays)
        return transpose(_total_cotangent(pre_activation, *values[-3:]))

    stride = settings[0]
    on_cuda = on_cuda and partial(on_cuda, stride=stride)
    return _by_platform(partial(on_cpu, stride=stride), elsewhere, *arrays, on_cuda=on_cuda)


def _relu_gradients(settings: tuple, fused: bool, residuals: tuple[Array, ...], parts: tuple[Array, ...]):
    kernels = _kernels_for(residuals[:-1], settings[0], fused)
    on_cpu, on_cuda = convolution_on_cpu.relu_backward, kernels and kernels.relu_backward
    return _gradients_of(_relu_convolve, on_cpu, on_cuda, settings, residuals + parts)


def _transposed_gradients(settings: tuple, _: bool, residuals: tuple[Array, ...], parts: tuple[Array, ...]):
    backward = convolution_on_cpu.transposed_backward
    return _gradients_of(_transposed_convolve, backward, None, settings, residuals + parts)


_conv3x3 = _differentiable(_convolve, convolution_on_cpu.input_forward, _input_gradients, _input_on_cuda)
_relu_conv3x3 = _differentiable(_relu_convolve, convolution_on_cpu.relu_forward, _relu_gradients, _relu_on_cuda)
_transposed_conv3x3 = _differentiable(
    _transposed_convolve, convolution_on_cpu.transposed_forward, _transposed_gradients
)
