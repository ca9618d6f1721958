"""A CPU's pass over the doubtful points beside an accelerator's over all points."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from emocluster_jax.clustering.passes import Assigned, _bounded_pass, _dense_pass, known_points, nothing_assigned

ROWS, DIM, PASSES = 3_001, 16, 12


@pytest.mark.parametrize("clusters", [1, 7, 200])
def test_leaving_out_what_cannot_change_changes_nothing(clusters: int) -> None:
    """Two hundred clusters are more than bounds are kept for."""
    rng = np.random.default_rng(clusters)
    groups = 3 * rng.standard_normal((9, DIM))
    points = jnp.asarray(groups[rng.integers(9, size=ROWS)] + rng.standard_normal((ROWS, DIM)) + 5, jnp.float32)
    real = jnp.arange(ROWS) < ROWS - 10
    mean = points[:-10].mean(axis=0)
    known = known_points(points, real, jnp.sum((points - mean) ** 2, axis=1), mean)
    centred = known._replace(points=jnp.where(real[:, None], points - mean, 0))
    dense, bounded = (jax.jit(partial(f, block_rows=256)) for f in (_dense_pass, _bounded_pass))
    before = centroids = points[:clusters]
    reference: Assigned = nothing_assigned(ROWS, DIM, clusters)
    found = reference
    for _ in range(PASSES):
        reference = dense(centred, centroids, before, reference)
        found = bounded(known, centroids, before, found)
        np.testing.assert_array_equal(found.assignments, reference.assignments)
        np.testing.assert_array_equal(found.counts, reference.counts)
        # Sums of up to 3,000 numbers of size 10, with members added and taken away one after the other.
        np.testing.assert_allclose(found.sums, reference.sums, atol=0.05, rtol=1e-5)
        distances = np.linalg.norm(np.asarray(points)[:-10, None] - np.asarray(centroids), axis=2)
        own = distances[np.arange(ROWS - 10), found.assignments[:-10]]
        # float32 distances of size 10.
        assert (found.upper[:-10] >= own - 1e-4).all()
        if 1 < clusters < 100:
            distances[np.arange(ROWS - 10), found.assignments[:-10]] = np.inf
            assert (found.lower[:-10] <= distances.min(axis=1) + 1e-4).all()
        before = centroids
        centroids = mean + reference.sums / jnp.maximum(reference.counts, 1)[:, None]
    assert (reference.assignments[-10:] == clusters).all()
