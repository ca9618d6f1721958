"""3x3 convolutions as kernels of this project for NVIDIA GPUs, in Pallas' dialect for Triton.

Around a library's convolution, normalisation, ReLU, moments and the parts of the cotangent are passes of their own over
activations, and in the first layers it is memory that takes the time. Here a program reads rows of one image,
normalises and rectifies them in registers, multiplies them with the nine taps on the tensor cores, in float32 sums, and
writes the new pre-activations and their moments. Backward, one kernel gives the input's gradient, with the mask of
ReLU, and one that of the kernel.

Functions take and return what those of `convolution_on_cpu` do, for the layers that `fits` names. Elsewhere than on
such a GPU they run with `interpret=True`, for tests.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton
from jaxtyping import Array

from emocluster_jax.models.convolution_on_cpu import Forward, Input, Kernel, Output, PerInput

# Which outputs read an input row or column, as (offset, tap). At stride 1 number i is read by the outputs i - 1, i and
# i + 1; at stride 2 an even number 2i by output i alone, an odd number 2i + 1 by the outputs i and i + 1.
_READERS = {1: (((-1, 2), (0, 1), (1, 0)),), 2: (((0, 1),), ((0, 2), (1, 0)))}
# Tensor cores multiply tiles of at least this many rows and columns: the nine taps of one channel are filled up to it.
_SMALLEST_TILE = 16
_LARGEST_TILE = 256
# Sixteen of a thread's registers for each of the nine taps of a kernel's gradient.
_LARGEST_KERNEL = 32 * 64
# So no kernel of the published network's layers runs out of registers. Only loops over rows have stages, which load one
# row while another is multiplied; two of them take up to 128 KB of shared memory.
_PARAMETERS = triton.CompilerParams(num_warps=8, num_stages=2)


def fits(shape: Sequence[int], channels: int, stride: int) -> bool:
    """Whether there are kernels for images (n, h, w, c_in) and this many channels of output.

    Rows of output are tiles, whose sizes must be powers of two; c_in may also be 1.
    """
    n, height, width, c_in = shape
    sizes = (width // stride, channels, *(() if c_in == 1 else (c_in,)))
    tiles = all(_SMALLEST_TILE <= size <= _LARGEST_TILE and size & (size - 1) == 0 for size in sizes)
    # Triton counts numbers of an array in 32 bits.
    small = c_in * channels <= _LARGEST_KERNEL and n * height * width * max(c_in, channels) < 2**31
    return tiles and width % stride == 0 and small


def input_forward(x: Input, kernel: Kernel, stride: int, *, interpret: bool = False) -> Forward:
    """Convolution of images of one channel."""
    taps = jnp.pad(kernel.reshape(9, -1), ((0, _SMALLEST_TILE - 9), (0, 0)))

    def body(x_ref, taps_ref, y_ref, *moment_refs):
        row, image = pl.program_id(0), pl.program_id(1)
        y = _product(_nine_taps(x_ref, image, row, stride, y_ref.shape[2]), taps_ref[...])
        _write_row(y, image, row, y_ref, moment_refs)

    return _forward(body, (x[..., 0], taps), x.shape, kernel.shape[-1], stride, interpret)


def input_backward(
    x: Input, kernel: Kernel, result: Output, *cotangents: Array, stride: int, interpret: bool = False
) -> Kernel:
    """The kernel's gradient for `input_forward`."""
    n, (h_out, w_out, c_out) = len(x), result.shape[1:]

    def body(x_ref, *refs):
        *total_refs, gradient_ref = refs
        image = pl.program_id(0)

        def add(row, gradient):
            total = _total_cotangent(total_refs, image, row, jnp.arange(w_out))
            return gradient + _product(_nine_taps(x_ref, image, row, stride, w_out).T, total)

        gradient_ref[image] = lax.fori_loop(0, h_out, add, jnp.zeros((_SMALLEST_TILE, c_out), jnp.float32))

    gradients = jax.ShapeDtypeStruct((n, _SMALLEST_TILE, c_out), jnp.float32)
    found = _call(body, (n,), (x[..., 0], result, *cotangents), gradients, interpret)
    return found.sum(0)[:9].reshape(kernel.shape).astype(kernel.dtype)


def relu_forward(
    x: Input, multiplier: PerInput, offset: PerInput, kernel: Kernel, stride: int, *, interpret: bool = False
) -> Forward:
    """Convolution of relu(x · multiplier + offset)."""
    c_out = kernel.shape[-1]

    def body(x_ref, multiplier_ref, offset_ref, kernel_ref, y_ref, *moment_refs):
        row, image, w_out = pl.program_id(0), pl.program_id(1), y_ref.shape[2]
        y = jnp.zeros((w_out, c_out), jnp.float32)
        for tap, column in product(range(3), range(3)):
            columns = stride * jnp.arange(w_out) + column - 1
            activation = _activation((x_ref, multiplier_ref, offset_ref), image, stride * row + tap - 1, columns)
            y += _product(activation, kernel_ref[tap, column])
        _write_row(y, image, row, y_ref, moment_refs)

    return _forward(body, (x, multiplier, offset, kernel), x.shape, c_out, stride, interpret)


def relu_backward(
    x: Input,
    multiplier: PerInput,
    offset: PerInput,
    kernel: Kernel,
    result: Output,
    *cotangents: Array,
    stride: int,
    interpret: bool = False,
) -> tuple[Input, PerInput, PerInput, Kernel]:
    """Gradients of `relu_forward` with respect to x, multiplier, offset and kernel."""
    arrays, totals = (x, multiplier, offset), (result, *cotangents)
    kernel_gradient = _kernel_gradient(arrays, kernel, totals, stride, interpret)
    return *_input_gradients(arrays, kernel, totals, stride, interpret), kernel_gradient


def _input_gradients(
    arrays: tuple[Array, ...], kernel: Array, totals: tuple[Array, ...], stride: int, interpret: bool
) -> tuple[Array, Array, Array]:
    """Of x, multiplier and offset."""
    x, (n, h_out, w_out, _) = arrays[0], totals[0].shape
    c_in, readers = x.shape[-1], _READERS[stride]
    phases = list(product(range(stride), range(stride)))

    def body(x_ref, multiplier_ref, offset_ref, kernel_ref, *refs):
        *total_refs, gradient_ref, multiplier_gradient_ref, offset_gradient_ref = refs
        row, image = pl.program_id(0), pl.program_id(1)
        # By the phases of row and column, of the rows of input numbered stride · row on.
        gradients = dict.fromkeys(phases, jnp.zeros((w_out, c_in), jnp.float32))
        for down, right in product(_offsets(stride), _offsets(stride)):
            total = _total_cotangent(total_refs, image, row + down, jnp.arange(w_out) + right)
            for row_phase, column_phase in phases:
                row_taps = [tap for offset, tap in readers[row_phase] if offset == down]
                column_taps = [tap for offset, tap in readers[column_phase] if offset == right]
                for taps in product(row_taps, column_taps):
                    gradients[row_phase, column_phase] += _product(total, kernel_ref[taps])
        of_multiplier = of_offset = jnp.zeros(c_in, jnp.float32)
        for (row_phase, column_phase), gradient in gradients.items():
            here = stride * row + row_phase
            values, inside = _pixels(x_ref, image, here, stride * jnp.arange(w_out) + column_phase)
            positive = values * multiplier_ref[...] + offset_ref[...] > 0
            gradient = jnp.where(inside & positive, gradient, 0)
            of_multiplier += (gradient * values).sum(0)
            of_offset += gradient.sum(0)
            _write(gradient_ref, image, here, column_phase, gradient * multiplier_ref[...])
        multiplier_gradient_ref[image, row] = of_multiplier
        offset_gradient_ref[image, row] = of_offset

    sums = jax.ShapeDtypeStruct((n, h_out, c_in), jnp.float32)
    # The columns of a phase lie side by side as channels.
    gradient = jax.ShapeDtypeStruct((*x.shape[:2], w_out, stride * c_in), x.dtype)
    operands = *arrays, kernel.swapaxes(2, 3), *totals
    gradient, *found = _call(body, (h_out, n), operands, (gradient, sums, sums), interpret)
    return gradient.reshape(x.shape), *(partial.sum((0, 1)) for partial in found)


def _kernel_gradient(
    arrays: tuple[Array, ...], kernel: Array, totals: tuple[Array, ...], stride: int, interpret: bool
) -> Array:
    (n, h_out, w_out, c_out), readers, offsets = totals[0].shape, _READERS[stride], _offsets(stride)
    parts = list(product(range(stride), range(3)))
    # The outputs that read a row, and where these are three a fourth, side by side: so one product gives all taps of a
    # column, and is large enough for the fast ones of an H100.
    reached = pl.next_power_of_2(len(offsets)) * c_out

    def body(*refs):
        activation_refs, total_refs, gradient_ref = refs[:3], refs[3:-1], refs[-1]
        image = pl.program_id(0)

        def add(row, gradients):
            totals = _totals_of_rows(total_refs, image, row + offsets[0], reached // c_out)
            found = []
            for (phase, column), gradient in zip(parts, gradients, strict=True):
                columns = stride * jnp.arange(w_out) + column - 1
                activation = _activation(activation_refs, image, stride * row + phase, columns)
                found.append(gradient + _product(totals, activation))
            return tuple(found)

        zeros = (jnp.zeros((reached, kernel.shape[2]), jnp.float32),) * len(parts)
        for part, gradient in zip(parts, lax.fori_loop(0, h_out, add, zeros), strict=True):
            gradient_ref[image, *part] = gradient

    gradients = jax.ShapeDtypeStruct((n, stride, 3, reached, kernel.shape[2]), jnp.float32)
    found = _call(body, (n,), (*arrays, *totals), gradients, interpret).sum(0)
    by_offset = found.reshape(stride, 3, -1, c_out, kernel.shape[2]).swapaxes(3, 4)
    taps = {tap: by_offset[phase, :, offset - offsets[0]] for phase in range(stride) for offset, tap in readers[phase]}
    return jnp.stack([taps[tap] for tap in range(3)]).astype(kernel.dtype)


def _offsets(stride: int) -> list[int]:
    """Of all outputs that read a row or column."""
    return sorted({offset for phase in _READERS[stride] for offset, _ in phase})


def _forward(
    body: Callable[..., None],
    arrays: tuple[Array, ...],
    shape: Sequence[int],
    channels: int,
    stride: int,
    interpret: bool,
) -> Forward:
    """Runs `body` for every row of output of the images of this shape, and adds up the moments."""
    n, height, width, _ = shape
    result = jax.ShapeDtypeStruct((n, -(-height // stride), width // stride, channels), arrays[0].dtype)
    sums = jax.ShapeDtypeStruct((*result.shape[:2], channels), jnp.float32)
    y, total, square = _call(body, (result.shape[1], n), arrays, (result, sums, sums), interpret)
    return y, total.sum((0, 1)), square.sum((0, 1))


def _call(
    body: Callable[..., None], grid: tuple[int, ...], arrays: tuple[Array, ...], out: Any, interpret: bool
) -> Any:
    """Runs a program for every place of the grid; those that follow one another on its first axis share the cache."""
    return pl.pallas_call(body, out, grid=grid, compiler_params=_PARAMETERS, interpret=interpret)(*arrays)


def _product(a: Array, b: Array) -> Array:
    # HIGHEST matters to float32 alone, which would be rounded to ten bits otherwise.
    return jnp.dot(a, b, precision=lax.Precision.HIGHEST, preferred_element_type=jnp.float32)


def _pixels(ref: Any, image: Array, row: Array, columns: Array) -> tuple[Array, Array]:
    """The pixels (w, c) of a row of an image at these columns, float32, and (w, 1) which of them are inside it."""
    height, width = ref.shape[1:3]
    inside = (row >= 0) & (row < height) & (columns >= 0) & (columns < width)
    pixels = ref[image, jnp.clip(row, 0, height - 1), jnp.clip(columns, 0, width - 1)]
    return pixels.astype(jnp.float32), inside[:, None]


def _activation(refs: Sequence[Any], image: Array, row: Array, columns: Array) -> Array:
    """What the convolution reads of a row: normalised and rectified, and 0 outside of the image."""
    x_ref, multiplier_ref, offset_ref = refs
    x, inside = _pixels(x_ref, image, row, columns)
    return jnp.where(inside, jax.nn.relu(x * multiplier_ref[...] + offset_ref[...]), 0).astype(x_ref.dtype)


def _total_cotangent(refs: Sequence[Any], image: Array, row: Array, columns: Array) -> Array:
    """The cotangent of a row of output, with those of the moments in it, and 0 outside of the image."""
    (y, inside), (cotangent, _) = (_pixels(ref, image, row, columns) for ref in refs[:2])
    return _total(refs, y, cotangent, inside)


def _totals_of_rows(refs: Sequence[Any], image: Array, row: Array, count: int) -> Array:
    """The total cotangents of `count` rows from `row` on, below one another: (count · c, w)."""
    height = refs[0].shape[1]
    rows = row + jnp.arange(count)
    y, cotangent = (ref[image, jnp.clip(rows, 0, height - 1)].astype(jnp.float32) for ref in refs[:2])
    total = _total(refs, y, cotangent, ((rows >= 0) & (rows < height))[:, None, None])
    return total.transpose(0, 2, 1).reshape(-1, total.shape[1])


def _total(refs: Sequence[Any], y: Array, cotangent: Array, inside: Array) -> Array:
    """Cotangents with those of the moments in them, of float32 outputs and cotangents."""
    y_ref, _, mean_ref, square_ref = refs
    return jnp.where(inside, cotangent + mean_ref[...] + square_ref[...] * y, 0).astype(y_ref.dtype)


def _nine_taps(x_ref: Any, image: Array, row: Array, stride: int, w_out: int) -> Array:
    """The patches (w_out, 16) of a row of output, of images (n, h, w); nine of the sixteen are taps, the others 0."""
    height, width = x_ref.shape[1:]
    tap = jnp.arange(_SMALLEST_TILE)[None]
    rows = stride * row + tap // 3 - 1
    columns = stride * jnp.arange(w_out)[:, None] + tap % 3 - 1
    inside = (tap < 9) & (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    rows = jnp.broadcast_to(jnp.clip(rows, 0, height - 1), columns.shape)
    return jnp.where(inside, x_ref[image, rows, jnp.clip(columns, 0, width - 1)], 0)


def _write(ref: Any, image: Array, row: Array, phase: int, values: Array) -> None:
    """Writes pixels (w, c) of a row of images (n, h, w, phases · c), unless the row is below the image."""
    height, channels = ref.shape[1], values.shape[1]
    mask = jnp.broadcast_to(row < height, values.shape)
    here = ref.at[image, jnp.minimum(row, height - 1), :, pl.ds(phase * channels, channels)]
    triton.store(here, values.astype(ref.dtype), mask=mask)


def _write_row(values: Array, image: Array, row: Array, y_ref: Any, moment_refs: Sequence[Any]) -> None:
    """Writes a row of output (w, c), with its sums and sums of squares."""
    y = values.astype(y_ref.dtype)
    y_ref[image, row] = y
    # Of what is written, so of rounded numbers.
    y = y.astype(jnp.float32)
    for ref, moment in zip(moment_refs, (y.sum(0), (y * y).sum(0)), strict=True):
        ref[image, row] = moment
