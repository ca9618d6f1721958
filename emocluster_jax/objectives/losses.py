"""The losses of the systems, as means over the global batch.

All but the CCC loss are means over this device's examples; devices hold equally many, so the mean of their gradients is
the gradient over the global batch.
"""

from __future__ import annotations

import flax.linen as nn
import jax.numpy as jnp
import optax
from jax import lax
from jaxtyping import Array, Float, Int


def ramp(done: Float[Array, ""], epochs: float) -> Float[Array, ""] | float:
    """What grows from 0 to 1 over so many epochs, after those `done`, with a fraction; 1 from the start for 0."""
    # Smaller numbers are 0 in float32.
    return jnp.minimum(done / epochs, 1.0) if epochs > 1e-30 else 1.0


def cross_entropy(
    logits: Float[Array, "n K"],
    labels: Int[Array, " n"],
    others: Int[Array, " n"] | None = None,
    shares: Float[Array, " n"] | None = None,
) -> Float[Array, ""]:
    """Mean cross-entropy between cluster scores and pseudo-labels (paper, equation 1); of mixed chunks, the mixture of
    that of their own `labels`, in these `shares`, and that of the `others`."""
    entropy = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    if others is not None and shares is not None:
        entropy = shares * entropy + (1 - shares) * optax.softmax_cross_entropy_with_integer_labels(logits, others)
    return entropy.mean()


def reconstruction_error(decoded: Float[Array, "n time mel"], chunks: Float[Array, "n time mel"]) -> Float[Array, ""]:
    """Mean squared error over all pixels of all chunks."""
    return jnp.mean((decoded - chunks) ** 2)


def gaussian_kl(mean: Float[Array, "n E"], log_variance: Float[Array, "n E"]) -> Float[Array, ""]:
    """KL divergence of N(mean, exp(log_variance)) from N(0, 1) in nats: a sum over E, averaged over the examples.

    Kingma & Welling (2014), appendix B.
    """
    return 0.5 * jnp.mean(jnp.sum(mean**2 + jnp.exp(log_variance) - 1.0 - log_variance, axis=1))


def triplet_margin_loss(
    anchors: Float[Array, "n E"], positives: Float[Array, "n E"], negatives: Float[Array, "n E"]
) -> Float[Array, ""]:
    """Mean over n of max(0, d(anchor, positive) - d(anchor, negative) + 1), d being the Euclidean distance.

    Schroff, Kalenichenko & Philbin, "FaceNet: a unified embedding for face recognition and clustering", CVPR 2015.
    """

    def distances(others: Float[Array, "n E"]) -> Float[Array, " n"]:
        # As in PyTorch; equal rows, such as zeros after ReLU, would have no gradient otherwise.
        return jnp.linalg.norm(anchors - others + 1e-6, axis=-1)

    return nn.relu(distances(positives) - distances(negatives) + 1.0).mean()


def ccc_loss(
    predictions: Float[Array, "n A"], targets: Float[Array, "n A"], axis_name: str | None = None
) -> Float[Array, ""]:
    """1 - CCC over the global batch, averaged over the attributes (paper, equation 2; Lin 1989).

    The covariance is divided by N and the variances by N - 1, as in the published training code. The CCC is not a mean
    over examples: its moments are averaged over `axis_name` inside the loss, so the result is the same on every device,
    and `lax.pmean` of the gradients gives the gradient over the global batch.

    Targets are in the predictions' units, NaN where missing. An attribute with fewer than two in the batch has no CCC
    and is left out.
    """

    def total(x: Float[Array, "n A"]) -> Float[Array, " A"]:
        local = jnp.sum(x, axis=0)
        # Not psum: pmean's transpose keeps the gradients of all devices' shares at the scale that the caller's
        # `lax.pmean` expects; the number of devices cancels out of every ratio below.
        return local if axis_name is None else lax.pmean(local, axis_name)

    devices = 1 if axis_name is None else lax.axis_size(axis_name)
    present = jnp.isfinite(targets)
    weights = present.astype(jnp.float32)
    targets = jnp.where(present, targets, 0.0)
    count = total(weights)
    safe_count = jnp.maximum(count, 1e-6)
    # Centred in a second pass: an untrained regressor's predictions differ by much less than their mean.
    x = (predictions - total(weights * predictions) / safe_count) * weights
    y = (targets - total(weights * targets) / safe_count) * weights
    mean_difference = (total(weights * predictions) - total(weights * targets)) / safe_count
    unbiased = jnp.maximum(count - 1.0 / devices, 1e-6)
    covariance = total(x * y) / safe_count
    spread = (total(x * x) + total(y * y)) / unbiased + mean_difference**2
    usable = count * devices > 1.5
    ccc = 2.0 * covariance / jnp.where(usable & (spread > 0), spread, 1.0)
    losses = jnp.where(usable, 1.0 - ccc, 0.0)
    return losses.sum() / jnp.maximum(usable.sum(), 1)
