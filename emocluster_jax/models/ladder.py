"""The semi-supervised ladder network of Parthasarathy & Busso on this project's encoder.

S. Parthasarathy and C. Busso, "Semi-supervised speech emotion recognition with ladder networks", IEEE/ACM Transactions
on Audio, Speech, and Language Processing 28, 2020; after A. Rasmus, H. Valpola, M. Honkala, M. Berglund and T. Raiko,
"Semi-supervised learning with ladder networks", NeurIPS 2015; the symbols are from there.

The encoder runs twice: clean, and with Gaussian noise on its input and on every layer's normalised activations z. A
decoder starts at the noisy top; at each level a combinator ẑ = g(z̃, u) estimates the clean activations from the noisy
ones of that level (the lateral connection) and from the level above. The squared errors of these estimates, the
denoising costs, need no labels. The regressor reads the noisy path in training and the clean one otherwise.

The levels are the input, the seven convolutions and the shared layer. Differences from Rasmus et al.:

- The ladder ends at the shared layer. Theirs starts the decoder from the class probabilities; the few numbers that a
  regressor predicts would tell it next to nothing.
- The shared layer has no batch normalisation, so that the clean path is the plain encoder. As a level, it is
  standardised by its own batch statistics, z = (a - mean) / deviation, and noise is added to that.
- They normalise ẑ once more by the clean path's statistics. Here combinators start as the identity on z̃, so that
  without noise all denoising costs are 0 up to rounding.
"""

from __future__ import annotations

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from emocluster_jax.feed.split import Inputs
from emocluster_jax.models.convolution import transposed_conv3x3
from emocluster_jax.models.encoder import (
    CONVOLUTION_STRIDES,
    ConvolutionKernel,
    dense_init,
    inverse_deviation,
    layer_shapes,
)
from emocluster_jax.models.network import Network, Output, chunks_of

_IDENTITY = (0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 1.0)
"""a1 to a10 of the combinator that returns its first argument: the mean is 0, the slope 1."""


class Combinator(nn.Module):
    """The "vanilla" denoising function g of Rasmus et al. (2015), with ten parameters per channel."""

    @nn.compact
    def __call__(self, noisy: Float[Array, "*n c"], above: Float[Array, "*n c"]) -> Float[Array, "*n c"]:
        """The estimate ẑ = (z̃ - µ(u)) υ(u) + µ(u), where µ and υ are a1 sigmoid(a2 u + a3) + a4 u + a5 each.

        z̃ are `noisy` normalised activations, u the normalised ones of the decoder's level `above`.
        """

        def identity(key: Array, shape: tuple[int, int]) -> Float[Array, "10 c"]:
            return jnp.broadcast_to(jnp.asarray(_IDENTITY)[:, None], shape)

        a = self.param("a", identity, (len(_IDENTITY), noisy.shape[-1]))
        mean = a[0] * nn.sigmoid(a[1] * above + a[2]) + a[3] * above + a[4]
        slope = a[5] * nn.sigmoid(a[6] * above + a[7]) + a[8] * above + a[9]
        return (noisy - mean) * slope + mean


class Ladder(Network):
    """The ladder network; its embeddings are the output of the clean path's shared layer, after ReLU.

    In training, `extras` has `denoising_costs` (levels,), the mean squared error of each level's estimate, from the
    input up.
    """

    title = "Ladder network"

    @nn.compact
    def __call__(self, inputs: Inputs, *, train: bool = False, noise_std: float | Float[Array, ""] = 0.0) -> Output:
        """The noisy path as well in training; otherwise the clean one alone.

        `noise_std` is the standard deviation of the noise, relative to that of the activations.
        """
        chunks = chunks_of(inputs)
        encoder = self.encoder
        if not train and not self.is_initializing():
            embeddings = nn.relu(encoder.embed(chunks, train=False))
            return Output(embeddings, self.regress(embeddings))

        clean = encoder.convolve(chunks)
        top = encoder.dense(clean[-1].activation)
        clean_top, _, _ = self._standardized(top)
        embeddings = nn.relu(top)
        if train:
            noisy_chunks = chunks + self._noise(chunks.shape, noise_std)
            noisy = encoder.convolve(noisy_chunks, noise_std=noise_std)
            values, mean, inverse = self._standardized(encoder.dense(noisy[-1].activation))
            noisy_top = values + self._noise(values.shape, noise_std)
            shared = nn.relu(noisy_top / inverse + mean)
        else:
            noisy_chunks, noisy, noisy_top, shared = chunks, clean, clean_top, embeddings

        targets = [chunks[..., None], *(level.normalized for level in clean), clean_top]
        lateral = [noisy_chunks[..., None], *(level.normalized for level in noisy), noisy_top]
        estimates = self._decode(lateral, shared)
        costs = [jnp.mean((estimate - target) ** 2) for estimate, target in zip(estimates, targets, strict=True)]

        dropout = nn.Dropout(self.config.dropout_rate, deterministic=not train)
        return Output(embeddings, self.regress(dropout(shared)), extras={"denoising_costs": jnp.stack(costs)})

    def _decode(self, lateral: list[Array], shared: Float[Array, "n E"]) -> list[Array]:
        """The estimates of all levels, from the input up, given the noisy activations and the noisy top."""
        dtype = jnp.dtype(self.config.compute_dtype)
        _, frames, mel_bands, _ = lateral[0].shape
        shapes = layer_shapes(frames, mel_bands, self.config)
        above, _, _ = self._standardized(shared)
        estimate = Combinator(name="combinator_shared")(lateral[-1], above)
        estimates = [estimate]
        units = math.prod(shapes[-1])
        dense = nn.Dense(units, use_bias=False, kernel_init=dense_init, dtype=dtype, name="decoder_dense")
        above, _, _ = self._standardized(dense(estimate).astype(jnp.float32).reshape(-1, *shapes[-1]))
        for i in reversed(range(len(shapes))):
            estimate = Combinator(name=f"combinator_{i}")(lateral[i], above)
            estimates.append(estimate)
            if i > 0:
                (height, width, outputs), stride = shapes[i - 1], CONVOLUTION_STRIDES[i - 1]
                kernel = ConvolutionKernel(outputs, shapes[i][2], name=f"decoder_convolution_{i - 1}")().astype(dtype)
                values, *moments = transposed_conv3x3(estimate.astype(dtype), kernel, stride, (height, width))
                mean, mean_square = self._over_devices(moments)
                above = (values.astype(jnp.float32) - mean) * inverse_deviation(mean, mean_square)
        return estimates[::-1]

    def _standardized(
        self, x: Float[Array, "*n c"]
    ) -> tuple[Float[Array, "*n c"], Float[Array, " c"], Float[Array, " c"]]:
        """`x` in units of its statistics over the batch (and height and width), its mean and its inverse deviation."""
        axes = tuple(range(x.ndim - 1))
        mean, mean_square = self._over_devices((x.mean(axes), (x * x).mean(axes)))
        inverse = inverse_deviation(mean, mean_square)
        return (x - mean) * inverse, mean, inverse

    def _over_devices(self, moments):
        return moments if self.axis_name is None else lax.pmean(moments, self.axis_name)

    def _noise(self, shape: tuple[int, ...], noise_std: float | Float[Array, ""]) -> Array:
        return noise_std * jax.random.normal(self.make_rng("noise"), shape)


NETWORK = Ladder
