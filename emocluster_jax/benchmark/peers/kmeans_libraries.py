"""K-means of faiss and of scikit-learn: from given centroids, as many iterations, then the assignment."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float, Int

from emocluster_jax.benchmark.arrays import grouped_points, random_rows
from emocluster_jax.benchmark.cases import Prepared


def faiss_clustering(count: int, dim: int, clusters: int, iterations: int) -> Prepared:
    """faiss.Kmeans on all points, without its sampling, and a search for the nearest centroids."""
    points = grouped_points(count, dim, seed=0)
    centroids = random_rows(points, clusters, seed=1)

    def repeat() -> dict[str, float]:
        squared_distances, _ = faiss_clusters(points, clusters, iterations, centroids)
        return {"objective": float(squared_distances.sum(dtype=np.float64))}

    repeat()
    return Prepared(repeat)


def sklearn_clustering(count: int, dim: int, clusters: int, iterations: int) -> Prepared:
    """sklearn.cluster.KMeans, which assigns in the end."""
    from sklearn.cluster import KMeans

    points = grouped_points(count, dim, seed=0)
    centroids = random_rows(points, clusters, seed=1)

    def repeat() -> dict[str, float]:
        kmeans: Any = KMeans  # the types of its arguments are guessed from their defaults
        fitted = kmeans(clusters, init=centroids, n_init=1, max_iter=iterations, tol=0, algorithm="lloyd").fit(points)
        return {"objective": float(fitted.inertia_), "iterations": float(fitted.n_iter_)}

    repeat()
    return Prepared(repeat)


def faiss_clusters(
    points: Float[np.ndarray, "n dim"],
    clusters: int,
    iterations: int,
    initial_centroids: Float[np.ndarray, "clusters dim"] | None = None,
    seed: int = 0,
) -> tuple[Float[np.ndarray, " n"], Int[np.ndarray, " n"]]:
    """Squared distance of every point to its centroid, and the number of that centroid."""
    import faiss  # type: ignore[import-not-found]

    kmeans = faiss.Kmeans(
        points.shape[1],
        clusters,
        niter=iterations,
        max_points_per_centroid=len(points),
        min_points_per_centroid=1,
        seed=seed,
    )
    kmeans.train(points, init_centroids=initial_centroids)
    squared_distances, assignments = kmeans.index.search(points, 1)
    return squared_distances.ravel(), assignments.ravel()
