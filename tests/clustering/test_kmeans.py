"""K-means against faiss's numbers, and the properties it promises for any points."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from emocluster_jax.clustering.blocks import fold_blocks
from emocluster_jax.clustering.kmeans import KMeansResult, assign, kmeans
from emocluster_jax.runtime import platforms
from emocluster_jax.runtime.platforms import for_every_platform

KEY = jax.random.key(0)
ROWS, DIM = 24, 3
# Few shapes, since each is compiled: some clusters, and as many as there are rows.
CLUSTERS = st.sampled_from([5, ROWS])
# Quarters are exact in float32, and few values make many duplicates.
GRID_POINTS = hnp.arrays(np.float32, (ROWS, DIM), elements=st.integers(-8, 8).map(lambda i: i / 4))
COARSE_POINTS = hnp.arrays(np.float32, (ROWS, DIM), elements=st.sampled_from([0.0, 1.0]))


def scatter(points: np.ndarray) -> float:
    return float(np.sum((points - points.mean(axis=0)) ** 2))


def distinct(points: np.ndarray) -> int:
    return len(np.unique(points, axis=0))


def used(result: KMeansResult) -> int:
    return len(np.unique(result.assignments))


@pytest.fixture(params=["cpu", "accelerator"])
def platform(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What is traced is this platform's code, though it runs on a CPU."""
    kmeans.clear_cache()
    monkeypatch.setattr(platforms, "only_cpu", lambda: request.param == "cpu")
    yield
    kmeans.clear_cache()


@pytest.mark.usefixtures("platform")
def test_faiss_gives_the_same_from_the_same_start(reference: Path) -> None:
    data = np.load(reference / "parity" / "kmeans.npz")
    result = kmeans(KEY, data["points"], clusters=10, initial_centroids=data["initial_centroids"])
    assert float(result.objective) == pytest.approx(float(data["objective"]), rel=1e-4)
    np.testing.assert_allclose(result.centroids, data["centroids"], atol=1e-3)
    assert np.mean(result.assignments == data["assignments"]) >= 0.999
    # faiss stops once nothing changes any more, here after 19 iterations.
    expected = data["iteration_objectives"]
    np.testing.assert_allclose(result.objectives[: len(expected)], expected, rtol=1e-4)
    assert result.reseeded == 0


def test_assign_finds_the_nearest_centroid(reference: Path) -> None:
    data = np.load(reference / "parity" / "kmeans.npz")
    points, centroids = data["points"], data["centroids"]
    assignments, distances = assign(points, centroids)
    exact = np.sum((points[:, None].astype(np.float64) - centroids) ** 2, axis=-1)
    np.testing.assert_array_equal(assignments, exact.argmin(axis=1))
    np.testing.assert_allclose(distances, exact.min(axis=1), rtol=1e-5)


def test_ties_go_to_the_lowest_index() -> None:
    points = np.array([[0.0, 0.0], [1.0, 0.0]], np.float32)
    centroids = np.array([[1.0, 1.0], [-1.0, 0.0], [1.0, 0.0], [1.0, 0.0], [0.0, 1.0]], np.float32)
    np.testing.assert_array_equal(assign(points, centroids)[0], [1, 2])


def test_more_rows_than_a_block() -> None:
    points = np.random.default_rng(0).normal(size=(2500, 4)).astype(np.float32)
    one = kmeans(KEY, points, clusters=1, iterations=1)
    np.testing.assert_allclose(one.centroids[0], points.mean(axis=0, dtype=np.float64), atol=1e-5)
    assert float(one.objective) == pytest.approx(scatter(points), rel=1e-5)
    assert float(one.objectives[0]) >= float(one.objective)


@pytest.mark.parametrize("rows", [1, 7, 8, 9, 20])
def test_a_fold_sees_every_real_row_once_whatever_the_blocks(rows: int) -> None:
    points = jnp.arange(2.0 * rows).reshape(rows, 2)
    real = jnp.arange(rows) != 3

    def step(seen, start, block, fresh):
        return seen.at[(block[:, 0] / 2).astype(int)].add(fresh)

    np.testing.assert_array_equal(fold_blocks(step, jnp.zeros(rows), points, real, 8), real)


@pytest.mark.parametrize("initialization", ["random", "kmeans++"])
@given(points=st.one_of(GRID_POINTS, COARSE_POINTS), clusters=CLUSTERS, seed=st.integers(0, 2**31 - 1))
def test_as_many_clusters_as_distinct_points_allow(initialization, points, clusters, seed) -> None:
    result = kmeans(jax.random.key(seed), points, clusters=clusters, iterations=4, initialization=initialization)
    assert used(result) == min(clusters, distinct(points))
    assert np.isfinite(result.centroids).all()
    # Moving an empty cluster to the farthest point never raises the objective either; the iterations' objectives are
    # rounded relative to the points' squared norms.
    slack = 1e-5 * max(scatter(points), 1e-30)
    objectives = np.append(result.objectives, result.objective)
    assert (np.diff(objectives) <= slack).all()
    exact = np.sum((points - np.asarray(result.centroids)[result.assignments]) ** 2)
    assert float(result.objective) == pytest.approx(float(exact), rel=1e-5, abs=1e-12)


@given(
    points=hnp.arrays(np.float32, (ROWS, DIM), elements=st.floats(-1, 1, width=32)),
    shift=st.floats(-1, 1).map(lambda s: 100 * s),
    seed=st.integers(0, 2**31 - 1),
)
def test_a_permutation_or_a_shift_of_the_points_changes_nothing_else(points, shift, seed) -> None:
    # A shift by 100 rounds points of size 1 to 1e-5, which moves a near tie to the other side now and then; what must
    # stay is the quality of one update from given centroids.
    rng = np.random.default_rng(seed)
    start, order = points[rng.choice(ROWS, 5, replace=False)], rng.permutation(ROWS)
    plain = kmeans(KEY, points, clusters=5, iterations=1, initial_centroids=start)
    permuted = kmeans(KEY, points[order], clusters=5, iterations=1, initial_centroids=start)
    shifted = kmeans(
        KEY, points + np.float32(shift), clusters=5, iterations=1, initial_centroids=start + np.float32(shift)
    )
    size = scatter(points) + 1e-30
    assert abs(float(permuted.objectives[0] - plain.objectives[0])) <= 1e-5 * size
    assert abs(float(shifted.objectives[0] - plain.objectives[0])) <= 1e-3 * size + 1e-3


def test_a_permutation_permutes_the_assignments_and_a_shift_moves_the_centroids() -> None:
    rng = np.random.default_rng(3)
    points = (rng.normal(size=(600, 8)) + 6 * rng.normal(size=(6, 8))[np.arange(600) % 6]).astype(np.float32)
    order = rng.permutation(600)
    plain = kmeans(KEY, points, clusters=6, initial_centroids=points[:6])
    permuted = kmeans(KEY, points[order], clusters=6, initial_centroids=points[:6])
    np.testing.assert_array_equal(permuted.assignments, np.asarray(plain.assignments)[order])
    np.testing.assert_allclose(permuted.centroids, plain.centroids, atol=1e-5)
    # float32 itself keeps 6e-5 of points near 1000.
    shifted = kmeans(KEY, points + 1000, clusters=6, initial_centroids=points[:6] + 1000)
    np.testing.assert_array_equal(shifted.assignments, plain.assignments)
    np.testing.assert_allclose(shifted.centroids - 1000, plain.centroids, atol=5e-4)


def test_one_cluster_and_one_cluster_a_point() -> None:
    points = np.random.default_rng(0).normal(size=(ROWS, DIM)).astype(np.float32)
    one = kmeans(KEY, points, clusters=1, iterations=4)
    np.testing.assert_allclose(one.centroids[0], points.mean(axis=0), atol=1e-6)
    assert float(one.objective) == pytest.approx(scatter(points), rel=1e-5)
    every = kmeans(KEY, points, clusters=ROWS, iterations=4)
    assert used(every) == ROWS
    assert float(every.objective) < 1e-10


def test_equal_points_stay_together() -> None:
    result = kmeans(KEY, np.full((ROWS, DIM), 0.1, np.float32), clusters=5, iterations=4)
    assert used(result) == 1
    assert float(result.objective) < 1e-12
    assert np.isfinite(result.centroids).all()


def test_empty_clusters_move_to_different_far_points() -> None:
    # Three start far from everything and empty at once; the farthest point exists twice.
    points = np.array([[0, 0], [0.1, 0], [9, 0], [9, 0], [0, 7]], np.float32)
    start = np.array([[0, 0], [1e3, 0], [1e3, 1], [1e3, 2]], np.float32)
    result = kmeans(KEY, points, clusters=4, iterations=0, initial_centroids=start)
    assert result.reseeded == 3
    np.testing.assert_array_equal(result.assignments, [0, 3, 1, 1, 2])
    np.testing.assert_array_equal(result.centroids, np.float32([[0, 0], [9, 0], [0, 7], [0.1, 0]]))


@pytest.mark.parametrize("initialization", ["random", "kmeans++"])
def test_initial_centroids_are_different_rows_and_depend_on_the_key(initialization: str) -> None:
    points = np.random.default_rng(5).normal(size=(200, 2)).astype(np.float32)

    def start(seed: int) -> list[int]:
        result = kmeans(jax.random.key(seed), points, clusters=8, iterations=0, initialization=initialization)
        return [int(np.flatnonzero((points == row).all(axis=1))[0]) for row in np.asarray(result.centroids)]

    assert len(set(start(0))) == 8
    assert start(0) == start(0) != start(1)


def test_kmeans_plus_plus_draws_in_proportion_to_squared_distance() -> None:
    # From the first centroid, 0 or 1 or 4, the chances of the second are known; 3,000 draws leave about 0.01 of noise.
    points = np.array([[0.0], [1.0], [4.0]], np.float32)
    draw = jax.vmap(lambda key: kmeans(key, points, clusters=2, iterations=0, initialization="kmeans++").centroids)
    drawn = np.asarray(draw(jax.random.split(KEY, 3000)))[..., 0]
    for first, second, chance in [(0, 4, 16 / 17), (1, 4, 9 / 10), (4, 0, 16 / 25)]:
        rows = drawn[drawn[:, 0] == first]
        assert len(rows) / 3000 == pytest.approx(1 / 3, abs=0.05)
        assert np.mean(rows[:, 1] == second) == pytest.approx(chance, abs=0.05)


def test_padding_changes_nothing() -> None:
    points = np.random.default_rng(2).normal(size=(100, DIM)).astype(np.float32)
    padded = np.concatenate([points, np.full((12, DIM), 50, np.float32)])
    weights = np.repeat(np.float32([1, 0]), [100, 12])
    plain, masked = kmeans(KEY, points, clusters=7), kmeans(KEY, padded, weights, clusters=7)
    np.testing.assert_array_equal(masked.assignments[:100], plain.assignments)
    np.testing.assert_allclose(masked.centroids, plain.centroids, atol=1e-5)
    assert float(masked.objective) == pytest.approx(float(plain.objective), rel=1e-5)


@pytest.mark.parametrize("initialization", ["random", "kmeans++"])
@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
@pytest.mark.parametrize("places", [np.s_[7, 3], np.s_[7], np.s_[5:15], np.s_[:]])
def test_points_that_are_not_finite_give_no_finite_objective(places: Any, value: float, initialization: str) -> None:
    """And an end: a point that is infinitely far even from itself never takes over an empty cluster."""
    points = np.random.default_rng(0).normal(size=(300, 8)).astype(np.float32)
    points[places] = value
    result = kmeans(KEY, points, clusters=5, initialization=initialization)
    assert not np.isfinite(result.objective)


@pytest.mark.parametrize("value", [np.inf, np.nan])
def test_rows_without_weight_may_be_anything(value: float) -> None:
    points = np.random.default_rng(0).normal(size=(300, 8)).astype(np.float32)
    weights = np.repeat(np.float32([1, 0]), [290, 10])
    zeros, others = points.copy(), points.copy()
    zeros[290:], others[290:] = 0, value
    found, expected = (kmeans(KEY, rows, weights, clusters=5) for rows in (others, zeros))
    np.testing.assert_array_equal(found.assignments[:290], expected.assignments[:290])
    np.testing.assert_array_equal(found.centroids, expected.centroids)
    assert np.isfinite(found.objective) and found.objective == expected.objective
    nothing = kmeans(KEY, others, np.zeros_like(weights), clusters=5)
    assert nothing.objective == 0


def test_wrong_requests_say_what_was_expected() -> None:
    points = np.zeros((4, 2), np.float32)
    with pytest.raises(ValueError, match="clusters is 5; expected 1 up to the number of rows, 4"):
        kmeans(KEY, points, clusters=5)
    with pytest.raises(ValueError, match="clusters is 0"):
        kmeans(KEY, points, clusters=0)


def test_memory_is_little_more_than_the_embeddings() -> None:
    points = jax.ShapeDtypeStruct((440_000, 256), jnp.float32)
    weights = jax.ShapeDtypeStruct((440_000,), jnp.float32)
    memory = kmeans.lower(jax.eval_shape(lambda: KEY), points, weights, clusters=1000).compile().memory_analysis()
    total = memory.argument_size_in_bytes + memory.output_size_in_bytes + memory.temp_size_in_bytes
    assert total <= 1.15 * 440_000 * 256 * 4


@pytest.mark.parametrize("initialization", ["random", "kmeans++"])
def test_lowers_for_accelerators(initialization: str) -> None:
    points = jax.ShapeDtypeStruct((5000, 256), jnp.float32)
    weights = jax.ShapeDtypeStruct((5000,), jnp.float32)

    def cluster(seed, points, weights):
        return kmeans(jax.random.key(seed), points, weights, clusters=30, initialization=initialization)

    with for_every_platform():
        exported = jax.export.export(jax.jit(cluster), platforms=["tpu", "cuda"])(
            jax.ShapeDtypeStruct((), jnp.int32), points, weights
        )
    assert exported.platforms == ("tpu", "cuda")
    assert "precision = [HIGHEST, HIGHEST]" in exported.mlir_module()


def test_spherical_kmeans_is_that_of_numpy() -> None:
    points = np.random.default_rng(1).normal(size=(300, 5))
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    centroids = points[:4]
    result = kmeans(KEY, points, clusters=4, iterations=6, initial_centroids=centroids, spherical=True)
    for _ in range(6):
        nearest = (points @ centroids.T).argmax(axis=1)
        sums = np.stack([points[nearest == k].sum(axis=0) for k in range(4)])
        centroids = sums / np.linalg.norm(sums, axis=1, keepdims=True)
    np.testing.assert_allclose(result.centroids, centroids, atol=1e-5)
    np.testing.assert_array_equal(result.assignments, (points @ centroids.T).argmax(axis=1))
