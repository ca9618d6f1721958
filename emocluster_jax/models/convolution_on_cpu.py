"""3x3 convolutions as matrix products over a few images at a time, for the CPU.

XLA's convolutions for the CPU run the forward pass at a third of the processor's speed and the gradients at a tenth of
it or less; its matrix products are near full speed. So a loop takes as many images as keep the patch matrix in the
cache, and does in one pass all that a layer needs: normalise and rectify the previous layer's output, collect the
patches, multiply, write the result, and sum its moments. Only pre-activations are kept in memory between layers.

A transposed convolution, as in a decoder, is the input gradient of a convolution, and its own gradients are a
convolution and a kernel gradient: the same few functions.

At stride 1 only the three horizontal taps are copied side by side (three times the input, not nine); one product gives
the contributions to the three output rows, which are added with a shift of one row each. At stride 2 the nine taps are
copied, 2.25 times the input.

Forward functions return the result, and its sum and sum of squares per channel. Backward functions return gradients of
the arrays that the forward one took, from these arrays, the result, and three parts of its cotangent: that of a value v
is cotangent + mean_cotangent + square_cotangent · v, where the latter two, per channel, come from the moments. Forming
it group by group saves a pass over the memory.
"""

from collections.abc import Callable, Sequence
from functools import reduce

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

# Output pixels per iteration. With fewer, the products of the last layers are too small to be fast; with more, the
# patch matrices of the first layers no longer fit into the cache.
PIXELS_PER_GROUP = 4096

Input = Float[Array, "n h w c_in"]
Output = Float[Array, "n h_out w_out c_out"]
Kernel = Float[Array, "3 3 c_in c_out"]
PerInput = Float[Array, " c_in"]
Forward = tuple[Float[Array, "n ..."], Float[Array, " c"], Float[Array, " c"]]


def input_forward(x: Input, kernel: Kernel, stride: int) -> Forward:
    """Convolution of an input of few channels."""

    def convolve(x):
        patches = _patch_rows(x, stride)
        n, h, w = patches.shape[1:]
        product = lax.dot_general(
            patches.reshape(len(patches), -1), kernel.reshape(len(patches), -1), (((0,), (0,)), ((), ()))
        )
        return product.reshape(n, h, w, -1)

    return _forward_in_groups(convolve, x, kernel.shape[-1], _strided(x.shape[1:3], stride))


def input_backward(x: Input, kernel: Kernel, result: Output, *cotangents: Array, stride: int) -> Kernel:
    """The kernel's gradient for `input_forward`."""
    c_out = kernel.shape[-1]

    def gradient(x, total):
        patches = _patch_rows(x, stride)
        return (patches.reshape(len(patches), -1) @ total.reshape(-1, c_out),), ()

    zeros = jnp.zeros((kernel.size // c_out, c_out))
    (kernel_gradient,), _ = _backward_in_groups(gradient, (zeros,), (), x, result, *cotangents)
    return kernel_gradient.reshape(kernel.shape)


def relu_forward(x: Input, multiplier: PerInput, offset: PerInput, kernel: Kernel, stride: int) -> Forward:
    """Convolution of relu(x · multiplier + offset)."""

    def convolve(x):
        return _convolve(jax.nn.relu(x * multiplier + offset), kernel, stride)

    return _forward_in_groups(convolve, x, kernel.shape[-1], _strided(x.shape[1:3], stride))


def relu_backward(
    x: Input, multiplier: PerInput, offset: PerInput, kernel: Kernel, result: Output, *cotangents: Array, stride: int
) -> tuple[Input, PerInput, PerInput, Kernel]:
    """Gradients of `relu_forward` with respect to x, multiplier, offset and kernel."""

    def gradients(x, total):
        activation = jax.nn.relu(x * multiplier + offset)
        activation_gradient = _input_gradient(kernel, total, stride, x.shape[1:3])
        kernel_gradient = _kernel_gradient(activation, total, stride)
        affine_gradient = jnp.where(activation > 0, activation_gradient, 0)
        sums = (affine_gradient * x).sum((0, 1, 2)), affine_gradient.sum((0, 1, 2)), kernel_gradient
        return sums, (affine_gradient * multiplier,)

    zeros = jax.tree.map(jnp.zeros_like, (multiplier, offset, kernel))
    sums, (x_gradient,) = _backward_in_groups(gradients, zeros, (jnp.zeros_like(x),), x, result, *cotangents)
    return x_gradient, *sums


def transposed_forward(x: Output, kernel: Kernel, stride: int, shape: tuple[int, int]) -> Forward:
    """The transpose of a convolution, with a result of the shape (h, w)."""
    return _forward_in_groups(lambda x: _input_gradient(kernel, x, stride, shape), x, kernel.shape[2], shape)


def transposed_backward(
    x: Output, kernel: Kernel, result: Input, *cotangents: Array, stride: int
) -> tuple[Output, Kernel]:
    """Gradients of `transposed_forward` with respect to x and kernel."""

    def gradients(x, total):
        return (_kernel_gradient(total, x, stride),), (_convolve(total, kernel, stride),)

    (kernel_gradient,), (x_gradient,) = _backward_in_groups(
        gradients, (jnp.zeros_like(kernel),), (jnp.zeros_like(x),), x, result, *cotangents
    )
    return x_gradient, kernel_gradient


def _convolve(x: Input, kernel: Kernel, stride: int) -> Output:
    n, h, w, c_in = x.shape
    c_out = kernel.shape[-1]
    if stride == 1:
        rows = _side_by_side(jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0))), w).reshape(-1, 3 * c_in)
        products = rows @ kernel.transpose(1, 2, 0, 3).reshape(3 * c_in, 3 * c_out)
        products = products.reshape(n, h + 2, w, 3, c_out)
        return reduce(jnp.add, [products[:, row : row + h, :, row] for row in range(3)])
    patches = _patches(x)
    return (patches.reshape(-1, 9 * c_in) @ kernel.reshape(9 * c_in, c_out)).reshape(*patches.shape[:3], c_out)


def _input_gradient(kernel: Kernel, cotangent: Output, stride: int, shape: tuple[int, int]) -> Input:
    """The convolution's transpose, back to an input of the shape (h, w)."""
    (h, w), (c_in, c_out) = shape, kernel.shape[2:]
    n, h_out, w_out, _ = cotangent.shape
    if stride == 1:
        # A column of zeros on either side keeps the shifted sum below within bounds.
        products = _three_rows(cotangent) @ kernel.transpose(0, 3, 1, 2).reshape(3 * c_out, 3 * c_in)
        products = products.reshape(n, h, w + 2, 3, c_in)
        return reduce(jnp.add, [products[:, :, 2 - column : 2 - column + w, column] for column in range(3)])
    products = cotangent.reshape(-1, c_out) @ kernel.reshape(9 * c_in, c_out).T
    products = _interleaved(_interleaved(products.reshape(n, h_out, w_out, 3, 3, c_in), 1, 3), 3, 4)
    return products.reshape(n, 2 * h_out, 2 * w_out, c_in)[:, :h, :w]


def _kernel_gradient(x: Input, cotangent: Output, stride: int) -> Kernel:
    c_in, c_out = x.shape[-1], cotangent.shape[-1]
    if stride == 1:
        columns = _side_by_side(jnp.pad(x, ((0, 0), (0, 0), (2, 2), (0, 0))), x.shape[2] + 2).reshape(-1, 3 * c_in)
        return (columns.T @ _three_rows(cotangent)).reshape(3, c_in, 3, c_out).transpose(2, 0, 1, 3)
    return (_patches(x).reshape(-1, 9 * c_in).T @ cotangent.reshape(-1, c_out)).reshape(3, 3, c_in, c_out)


def _three_rows(cotangent: Float[Array, "n h w c"]) -> Float[Array, "pixels 3*c"]:
    """Each pixel beside those below and above it, with a column of zeros on either side of the image."""
    h, c = cotangent.shape[1], cotangent.shape[-1]
    padded = jnp.pad(cotangent, ((0, 0), (1, 1), (1, 1), (0, 0)))
    return jnp.concatenate([padded[:, 2 - row : 2 - row + h] for row in range(3)], -1).reshape(-1, 3 * c)


def _strided(shape: Sequence[int], stride: int) -> tuple[int, ...]:
    return tuple(-(-size // stride) for size in shape)


def _side_by_side(padded: Float[Array, "n h w_padded c"], w: int) -> Float[Array, "n h w 3*c"]:
    """The three horizontal taps of every pixel as channels."""
    return jnp.concatenate([padded[:, :, column : column + w] for column in range(3)], -1)


def _patches(x: Float[Array, "n h w c"]) -> Float[Array, "n h_out w_out 9*c"]:
    """The nine taps of every pixel that stride 2 visits, as channels."""
    padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    h_reach, w_reach = (2 * size - 1 for size in _strided(x.shape[1:3], 2))
    return jnp.concatenate(
        [padded[:, i : i + h_reach : 2, j : j + w_reach : 2] for i in range(3) for j in range(3)], -1
    )


def _patch_rows(x: Float[Array, "n h w c"], stride: int) -> Float[Array, "9*c n h_out w_out"]:
    """The nine taps of every pixel as rows: with few channels, long rows are copied faster than short columns."""
    planes = jnp.pad(jnp.moveaxis(x, -1, 0), ((0, 0), (0, 0), (1, 1), (1, 1)))
    h, w = x.shape[1:3]
    taps = [planes[:, :, i : i + h : stride, j : j + w : stride] for i in range(3) for j in range(3)]
    return jnp.concatenate(taps)


def _interleaved(products: Array, axis: int, tap_axis: int) -> Array:
    """Sums the three taps of one direction per pixel of the finer grid, in pairs (even, odd) after `axis`.

    Output i of stride 2 reads the pixels 2i - 1, 2i and 2i + 1. So the even pixel 2i gets the middle tap of output i,
    and the odd pixel 2i + 1 the last tap of output i and the first of output i + 1.
    """
    first, middle, last = (lax.index_in_dim(products, tap, tap_axis, keepdims=False) for tap in range(3))
    shift = [(-1, 1, 0) if dimension == axis else (0, 0, 0) for dimension in range(first.ndim)]
    return jnp.stack([middle, last + lax.pad(first, jnp.zeros((), first.dtype), shift)], axis + 1)


def _forward_in_groups(convolve: Callable[[Array], Array], x: Array, c_out: int, shape: Sequence[int]) -> Forward:
    def forward(x):
        y = convolve(x)
        return (y.sum((0, 1, 2)), (y * y).sum((0, 1, 2))), (y,)

    zeros = jnp.zeros(c_out), jnp.zeros(c_out)
    whole = jnp.zeros((len(x), *shape, c_out), x.dtype)
    (total, square), (result,) = _loop(forward, zeros, (whole,), (x,), shape)
    return result, total, square


def _backward_in_groups(
    gradients: Callable,
    sums,
    results,
    x: Array,
    result: Array,
    cotangent: Array,
    mean_cotangent: Array,
    square_cotangent: Array,
):
    def backward(x, result, cotangent):
        return gradients(x, cotangent + mean_cotangent + square_cotangent * result)

    return _loop(backward, sums, results, (x, result, cotangent), result.shape[1:3])


def _loop(function: Callable, sums, results, arrays: Sequence[Array], shape: Sequence[int]):
    """Runs `function(*images) -> (sums, results)` over groups of images; adds its sums, and fills in its results.

    The arrays are sliced in place: `lax.scan` over groups would reshape them, and XLA would copy each one whole.

    Args:
        function: of as many images of each array.
        sums: to begin with.
        results: arrays of n images to write into; to find their shapes would mean to trace the function once more.
        arrays: of n images.
        shape: height and width of the forward pass's result, which determine the size of the groups.
    """
    n = len(arrays[0])
    size = max(1, min(n, PIXELS_PER_GROUP // (shape[0] * shape[1])))

    def step(group, carry, images=size):
        sums, results = carry
        start = group * size
        added, here = function(*(lax.dynamic_slice_in_dim(x, start, images) for x in arrays))
        return jax.tree.map(jnp.add, sums, added), tuple(
            lax.dynamic_update_slice_in_dim(whole, part, start, 0) for whole, part in zip(results, here, strict=True)
        )

    carry = lax.fori_loop(0, n // size, step, (sums, results))
    return step(n // size, carry, n % size) if n % size else carry
