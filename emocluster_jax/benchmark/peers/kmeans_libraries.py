"""K-means by faiss and by scikit-learn, from the same centroids for as many iterations, then the assignment."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float, Int

from emocluster_jax.benchmark.cases import Prepared
from emocluster_jax.benchmark.made_data import points_and_centroids


def faiss_clustering(count: int, dim: int, clusters: int, iterations: int) -> Prepared:
    """faiss.Kmeans on all points instead of a sample, and a search for the nearest centroids."""
    points, centroids = points_and_centroids(count, dim, clusters)

    def repeat() -> dict[str, float]:
        squared_distances, _ = faiss_clusters(points, clusters, iterations, centroids)
        return {"objective": float(squared_distances.sum(dtype=np.float64))}

    repeat()
    return Prepared(repeat)


def sklearn_clustering(count: int, dim: int, clusters: int, iterations: int) -> Prepared:
    """sklearn.cluster.KMeans, which assigns at the end."""
    from sklearn.cluster import KMeans

    points, centroids = points_and_centroids(count, dim, clusters)

    def repeat() -> dict[str, float]:
        kmeans: Any = KMeans  # type checkers guess the types of its arguments from their defaults
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
    """Every point's squared distance to its centroid, and that centroid's number."""
    import faiss  # type: ignore[import-not-found]

    sample = {"max_points_per_centroid": len(points), "min_points_per_centroid": 1}
    kmeans = faiss.Kmeans(points.shape[1], clusters, niter=iterations, seed=seed, **sample)
    kmeans.train(points, init_centroids=initial_centroids)
    squared_distances, assignments = kmeans.index.search(points, 1)
    return squared_distances.ravel(), assignments.ravel()
