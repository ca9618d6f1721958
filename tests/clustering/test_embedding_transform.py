"""Principal components, whitening and unit length before clustering."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest

from emocluster_jax.clustering.embedding_transform import fit_transform, transform


@pytest.fixture
def embeddings() -> np.ndarray:
    rng = np.random.default_rng(0)
    mixing = rng.normal(size=(8, 8)) * np.linspace(4, 0.5, 8)[:, None]
    return (rng.normal(size=(5000, 8)) @ mixing + 30).astype(np.float32)


def test_components_match_scikit_learn(embeddings: np.ndarray) -> None:
    from sklearn.decomposition import PCA

    expected = PCA(3, svd_solver="full").fit(embeddings)
    fitted = fit_transform(embeddings, components=3)
    signs = np.sign(np.sum(expected.components_ * np.asarray(fitted.projection).T, axis=1))
    np.testing.assert_allclose(fitted.projection, (expected.components_ * signs[:, None]).T, atol=1e-3)
    np.testing.assert_allclose(
        transform(embeddings, fitted), expected.transform(embeddings) * signs, atol=2e-3 * np.abs(embeddings).max()
    )


def test_whitened_components_have_unit_variance_and_no_correlation(embeddings: np.ndarray) -> None:
    whitened = transform(embeddings, fit_transform(embeddings, components=8, whiten=True))
    np.testing.assert_allclose(np.cov(whitened, rowvar=False, bias=True), np.eye(8), atol=2e-3)


def test_whitening_leaves_directions_without_variance_at_zero(embeddings: np.ndarray) -> None:
    flat = embeddings.copy()
    flat[:, 4:] = 1.0
    whitened = np.asarray(transform(flat, fit_transform(flat, components=8, whiten=True)))
    np.testing.assert_allclose(whitened[:, :4].var(axis=0), 1, atol=2e-3)
    np.testing.assert_array_equal(whitened[:, 4:], 0)


def test_unit_length(embeddings: np.ndarray) -> None:
    embeddings[0] = 0
    lengths = jnp.linalg.norm(transform(embeddings, None, l2_normalize=True), axis=1)
    np.testing.assert_allclose(lengths, [0, *[1] * 4999], atol=1e-6)


@pytest.mark.parametrize("values", [[np.nan, 1], [np.inf, 1], [-np.inf, np.inf], [1e30, 1e30]])
def test_rows_without_a_length_have_no_unit_length(embeddings: np.ndarray, values: list[float]) -> None:
    """They must not pass for rows of zeros, which can be clustered."""
    embeddings[3, :2] = values
    transformed = np.asarray(transform(embeddings, None, l2_normalize=True))
    np.testing.assert_array_equal(np.flatnonzero(~np.isfinite(transformed).all(axis=1)), [3])


def test_padding_does_not_count(embeddings: np.ndarray) -> None:
    padded = np.concatenate([embeddings, np.full((10, 8), 1e4, np.float32)])
    weights = np.repeat(np.float32([1, 0]), [5000, 10])
    np.testing.assert_allclose(
        fit_transform(padded, weights, components=2).projection,
        fit_transform(embeddings, components=2).projection,
        atol=1e-5,
    )


def test_too_many_components_are_refused(embeddings: np.ndarray) -> None:
    with pytest.raises(ValueError, match="components is 9"):
        fit_transform(embeddings, components=9)
