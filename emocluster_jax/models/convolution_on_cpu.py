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


def input_forward(
    x: Float[Array, "n h w c_in"], kernel: Float[Array, "3 3 c_in c_out"], stride: int
) -> tuple[Float[Array, "n h_out w_out c_out"], Float[Array, " c_out"], Float[Array, " c_out"]]:
    """Convolution of an input of few channels: the result, its sum and its sum of squares per channel."""

    def convolve(x):
        patches = _patch_rows(x, stride)
        n, h, w = patches.shape[1:]
        product = lax.dot_general(
            patches.reshape(len(patches), -1), kernel.reshape(len(patches), -1), (((0,), (0,)), ((), ()))
        )
        return product.reshape(n, h, w, -1)

    return _forward_in_groups(convolve, x, kernel.shape[-1])


def input_backward(
    x: Float[Array, "n h w c_in"],
    kernel: Float[Array, "3 3 c_in c_out"],
    pre_activation: Float[Array, "n h_out w_out c_out"],
    cotangent: Float[Array, "n h_out w_out c_out"],
    mean_cotangent: Float[Array, " c_out"],
    square_cotangent: Float[Array, " c_out"],
    stride: int,
) -> Float[Array, "3 3 c_in c_out"]:
    """The kernel's gradient for `input_forward`; see `relu_backward` for the cotangents."""
    c_out = kernel.shape[-1]

    def gradient(sums, x, pre_activation, cotangent):
        total = cotangent + mean_cotangent + square_cotangent * pre_activation
        patches = _patch_rows(x, stride)
        return (sums[0] + patches.reshape(len(patches), -1) @ total.reshape(-1, c_out),), ()

    size = _group_size(pre_activation.shape)
    (kernel_gradient,), _ = _loop(
        gradient, (jnp.zeros((kernel.size // c_out, c_out)),), (x, pre_activation, cotangent), size
    )
    return kernel_gradient.reshape(kernel.shape)


def relu_forward(
    x: Float[Array, "n h w c_in"],
    multiplier: Float[Array, " c_in"],
    offset: Float[Array, " c_in"],
    kernel: Float[Array, "3 3 c_in c_out"],
    stride: int,
) -> tuple[Float[Array, "n h_out w_out c_out"], Float[Array, " c_out"], Float[Array, " c_out"]]:
    """Convolution of relu(x · multiplier + offset): the result, its sum and its sum of squares per channel."""

    def convolve(x):
        return _convolve(jax.nn.relu(x * multiplier + offset), kernel, stride)

    return _forward_in_groups(convolve, x, kernel.shape[-1])


def relu_backward(
    x: Float[Array, "n h w c_in"],
    multiplier: Float[Array, " c_in"],
    offset: Float[Array, " c_in"],
    kernel: Float[Array, "3 3 c_in c_out"],
    pre_activation: Float[Array, "n h_out w_out c_out"],
    cotangent: Float[Array, "n h_out w_out c_out"],
    mean_cotangent: Float[Array, " c_out"],
    square_cotangent: Float[Array, " c_out"],
    stride: int,
) -> tuple[Float[Array, "n h w c_in"], Float[Array, " c_in"], Float[Array, " c_in"], Float[Array, "3 3 c_in c_out"]]:
    """Gradients of `relu_forward` with respect to x, multiplier, offset and kernel.

    The cotangent of an output value v is cotangent + mean_cotangent + square_cotangent · v, where the latter two come
    from the batch's moments. Forming it group by group saves a pass over the memory.
    """

    def gradients(sums, x, pre_activation, cotangent):
        total = cotangent + mean_cotangent + square_cotangent * pre_activation
        activation = jax.nn.relu(x * multiplier + offset)
        activation_gradient = _input_gradient(kernel, total, stride, x.shape[1:3])
        kernel_gradient = _kernel_gradient(activation, total, stride)
        affine_gradient = jnp.where(activation > 0, activation_gradient, 0)
        here = ((affine_gradient * x).sum((0, 1, 2)), affine_gradient.sum((0, 1, 2)), kernel_gradient)
        return jax.tree.map(jnp.add, sums, here), (affine_gradient * multiplier,)

    zeros = jax.tree.map(jnp.zeros_like, (multiplier, offset, kernel))
    sums, (x_gradient,) = _loop(gradients, zeros, (x, pre_activation, cotangent), _group_size(pre_activation.shape))
    return x_gradient, *sums


def transposed_forward(
    x: Float[Array, "n h_out w_out c_out"],
    kernel: Float[Array, "3 3 c_in c_out"],
    stride: int,
    shape: tuple[int, int],
) -> tuple[Float[Array, "n h w c_in"], Float[Array, " c_in"], Float[Array, " c_in"]]:
    """The transpose of a convolution: the result of the shape (h, w), its sum and its sum of squares per channel."""

    def convolve(x):
        return _input_gradient(kernel, x, stride, shape)

    return _forward_in_groups(convolve, x, kernel.shape[2])


def transposed_backward(
    x: Float[Array, "n h_out w_out c_out"],
    kernel: Float[Array, "3 3 c_in c_out"],
    result: Float[Array, "n h w c_in"],
    cotangent: Float[Array, "n h w c_in"],
    mean_cotangent: Float[Array, " c_in"],
    square_cotangent: Float[Array, " c_in"],
    stride: int,
) -> tuple[Float[Array, "n h_out w_out c_out"], Float[Array, "3 3 c_in c_out"]]:
    """Gradients of `transposed_forward` with respect to x and kernel; see `relu_backward` for the cotangents."""

    def gradients(sums, x, result, cotangent):
        total = cotangent + mean_cotangent + square_cotangent * result
        return (sums[0] + _kernel_gradient(total, x, stride),), (_convolve(total, kernel, stride),)

    (kernel_gradient,), (x_gradient,) = _loop(
        gradients, (jnp.zeros_like(kernel),), (x, result, cotangent), _group_size(result.shape)
    )
    return x_gradient, kernel_gradient


def _convolve(x: Float[Array, "n h w c_in"], kernel: Float[Array, "3 3 c_in c_out"], stride: int) -> Array:
    n, h, w, c_in = x.shape
    c_out = kernel.shape[-1]
    if stride == 1:
        rows = _side_by_side(jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0))), w).reshape(-1, 3 * c_in)
        products = rows @ kernel.transpose(1, 2, 0, 3).reshape(3 * c_in, 3 * c_out)
        products = products.reshape(n, h + 2, w, 3, c_out)
        return reduce(jnp.add, [products[:, row : row + h, :, row] for row in range(3)])
    h_out, w_out = _halved(h), _halved(w)
    return (_patches(x).reshape(-1, 9 * c_in) @ kernel.reshape(9 * c_in, c_out)).reshape(n, h_out, w_out, c_out)


def _input_gradient(
    kernel: Float[Array, "3 3 c_in c_out"],
    cotangent: Float[Array, "n h_out w_out c_out"],
    stride: int,
    shape: tuple[int, int],
) -> Float[Array, "n h w c_in"]:
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


def _kernel_gradient(
    x: Float[Array, "n h w c_in"], cotangent: Float[Array, "n h_out w_out c_out"], stride: int
) -> Float[Array, "3 3 c_in c_out"]:
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


def _halved(size: int) -> int:
    return -(-size // 2)


def _side_by_side(padded: Float[Array, "n h w_padded c"], w: int) -> Float[Array, "n h w 3*c"]:
    """The three horizontal taps of every pixel as channels."""
    return jnp.concatenate([padded[:, :, column : column + w] for column in range(3)], -1)


def _patches(x: Float[Array, "n h w c"]) -> Float[Array, "n h_out w_out 9*c"]:
    """The nine taps of every pixel that stride 2 visits, as channels."""
    padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    h_reach, w_reach = 2 * _halved(x.shape[1]) - 1, 2 * _halved(x.shape[2]) - 1
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


def _group_size(shape: Sequence[int]) -> int:
    n, h, w, _ = shape
    return max(1, min(n, PIXELS_PER_GROUP // (h * w)))


def _forward_in_groups(convolve: Callable[[Array], Array], x: Array, c_out: int):
    def forward(sums, x):
        y = convolve(x)
        return (sums[0] + y.sum((0, 1, 2)), sums[1] + (y * y).sum((0, 1, 2))), (y,)

    size = _group_size(jax.eval_shape(convolve, x).shape)
    (total, square), (pre_activation,) = _loop(forward, (jnp.zeros(c_out), jnp.zeros(c_out)), (x,), size)
    return pre_activation, total, square


def _loop(function: Callable, sums, arrays: Sequence[Array], size: int):
    """Runs `function(sums, *images) -> (sums, results)` over groups of `size` images and over the remaining ones.

    The arrays are sliced in place: `lax.scan` over groups would reshape them, and XLA would copy each one whole.
    """
    n = len(arrays[0])
    shapes = jax.eval_shape(function, sums, *(x[:size] for x in arrays))[1]
    results = tuple(jnp.zeros((n, *y.shape[1:]), y.dtype) for y in shapes)

    def step(group, carry, images=size):
        sums, results = carry
        start = group * size
        sums, here = function(sums, *(lax.dynamic_slice_in_dim(x, start, images) for x in arrays))
        return sums, tuple(
            lax.dynamic_update_slice_in_dim(whole, part, start, 0) for whole, part in zip(results, here, strict=True)
        )

    carry = lax.fori_loop(0, n // size, step, (sums, results))
    return step(n // size, carry, n % size) if n % size else carry
