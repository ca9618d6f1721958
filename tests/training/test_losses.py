"""The losses against closed forms, and the CCC loss against the authors' numbers."""

from __future__ import annotations

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, stats

from emocluster_jax.objectives.losses import ccc_loss, cross_entropy, gaussian_kl, reconstruction_error


def concordance(x: np.ndarray, y: np.ndarray) -> float:
    """The training form, written out: covariance over N, variances over N - 1."""
    covariance = ((x - x.mean()) * (y - y.mean())).mean()
    return 2 * covariance / (x.var(ddof=1) + y.var(ddof=1) + (x.mean() - y.mean()) ** 2)


def loss(x: np.ndarray, y: np.ndarray) -> float:
    return float(ccc_loss(jnp.asarray(x, jnp.float32), jnp.asarray(y, jnp.float32)))


def test_reference(reference: Path) -> None:
    with np.load(reference / "parity" / "ccc.npz") as numbers:
        x, y, expected = numbers["prediction"], numbers["target"], float(numbers["ccc_loss"])
    assert loss(x[:, None], y[:, None]) == pytest.approx(expected, abs=1e-5)  # float32 sums of 50 values


def test_attributes_are_averaged_and_missing_labels_left_out() -> None:
    rng = np.random.default_rng(0)
    y = rng.normal(size=(40, 2))
    x = 0.5 * y + rng.normal(size=(40, 2)) + 0.3
    present = np.ones((40, 2), bool)
    present[5:20, 1] = False
    expected = 1 - (concordance(x[:, 0], y[:, 0]) + concordance(x[present[:, 1], 1], y[present[:, 1], 1])) / 2
    assert loss(x, np.where(present, y, np.nan)) == pytest.approx(expected, rel=1e-5)  # float32


def test_attribute_without_labels_does_not_count() -> None:
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(2, 20, 2))
    present = np.stack([np.ones(20, bool), np.arange(20) < 1], axis=1)
    assert loss(x, np.where(present, y, np.nan)) == pytest.approx(1 - concordance(x[:, 0], y[:, 0]), rel=1e-5)
    assert loss(x, np.full((20, 2), np.nan)) == 0.0


def test_perfect_opposite_and_constant_predictions() -> None:
    y = np.linspace(-1, 1, 1_000)[:, None]
    # Covariance over N against variances over N - 1: not quite 1.
    assert loss(y, y) == pytest.approx(1 - 0.999, abs=1e-6)
    assert loss(-y, y) == pytest.approx(1 + 0.999, abs=1e-6)
    assert loss(np.zeros_like(y), y) == 1.0
    assert loss(np.zeros_like(y), np.zeros_like(y)) == 1.0


def test_tiny_spread_about_a_large_mean_keeps_its_digits() -> None:
    rng = np.random.default_rng(2)
    x = np.float32(3 + 1e-3 * rng.normal(size=(100, 1)))
    y = np.float32(3 + 1e-3 * rng.normal(size=(100, 1)))
    # Squares about zero would leave 3^2 * 6e-8 of rounding beside variances of 1e-6, that is half of them.
    assert loss(x, y) == pytest.approx(1 - concordance(x.astype(float), y.astype(float)), abs=5e-3)


def test_gradient_is_finite_where_the_loss_is_degenerate() -> None:
    zeros = jnp.zeros((8, 1))
    for targets in (zeros, jnp.full((8, 1), jnp.nan)):
        gradient = jax.grad(lambda x, y=targets: ccc_loss(x, y))(zeros)
        assert np.isfinite(np.asarray(gradient)).all()


def test_cross_entropy_of_uniform_scores() -> None:
    assert float(cross_entropy(jnp.zeros((6, 10)), jnp.arange(6))) == pytest.approx(np.log(10), rel=1e-6)


def test_kl_of_gaussians_is_its_integral() -> None:
    means, deviations = np.array([[0.0, 1.5], [-0.7, 0.2]]), np.array([[1.0, 0.5], [2.0, 0.1]])

    def divergence(mean: float, deviation: float) -> float:
        code, standard = stats.norm(mean, deviation), stats.norm()

        def integrand(z: float) -> float:
            return code.pdf(z) * (code.logpdf(z) - standard.logpdf(z))

        return integrate.quad(integrand, mean - 10 * deviation, mean + 10 * deviation)[0]

    # Summed over the dimensions of a code, and averaged over the codes.
    expected = np.vectorize(divergence)(means, deviations).sum(axis=1).mean()
    found = gaussian_kl(jnp.asarray(means, jnp.float32), jnp.asarray(2 * np.log(deviations), jnp.float32))
    assert float(found) == pytest.approx(expected, rel=1e-5)  # float32
    assert float(gaussian_kl(jnp.zeros((3, 4)), jnp.zeros((3, 4)))) == 0.0


def test_reconstruction_error_is_a_mean_over_pixels() -> None:
    chunks = jnp.zeros((2, 3, 5))
    assert float(reconstruction_error(chunks.at[1].set(2.0), chunks)) == pytest.approx(2.0)
