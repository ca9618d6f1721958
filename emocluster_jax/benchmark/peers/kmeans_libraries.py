"""K-means of faiss and of scikit-learn: from given centroids, as many iterations, then the assignment."""

from __future__ import annotations

from typing import Any

from emocluster_jax.benchmark.arrays import grouped_points, random_rows
from emocluster_jax.benchmark.cases import Prepared


def faiss_clustering(count: int, dim: int, clusters: int, iterations: int) -> Prepared:
    """faiss.Kmeans on all points, without its sampling, and a search for the nearest centroids."""
    import faiss

    points = grouped_points(count, dim, seed=0)
    centroids = random_rows(points, clusters, seed=1)

    def repeat() -> dict[str, float]:
        kmeans = faiss.Kmeans(dim, clusters, niter=iterations, max_points_per_centroid=count, min_points_per_centroid=1)
        kmeans.train(points, init_centroids=centroids)
        distances, _ = kmeans.index.search(points, 1)  # type: ignore[union-attr]
        return {"objective": float(distances.sum(dtype="float64"))}

    repeat()
    return Prepared(repeat)


def sklearn_clustering(count: int, dim: int, clusters: int, iterations: int) -> Prepared:
    """sklearn.cluster.KMeans, which assigns in the end."""
    from sklearn.cluster import KMeans

    points = grouped_points(count, dim, seed=0)
    centroids = random_rows(points, clusters, seed=1)

    def repeat() -> dict[str, float]:
        kmeans: Any = KMeans  # its stubs are guesses
        fitted = kmeans(clusters, init=centroids, n_init=1, max_iter=iterations, tol=0, algorithm="lloyd").fit(points)
        return {"objective": float(fitted.inertia_), "iterations": float(fitted.n_iter_)}

    repeat()
    return Prepared(repeat)
