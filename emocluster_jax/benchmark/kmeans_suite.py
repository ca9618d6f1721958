"""K-means over embeddings, 20 iterations and the assignment to the last centroids, all from the same centroids."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Float

from emocluster_jax.benchmark.cases import Case, Device, Prepared, ours, peer
from emocluster_jax.benchmark.made_data import points_and_centroids
from emocluster_jax.benchmark.programs import compile_times, floor_seconds
from emocluster_jax.clustering.kmeans import KMeansResult, kmeans
from emocluster_jax.runtime import parallel

DIM = 256
ITERATIONS = 20
# The paper's 40K setting has 440,000 chunks; with more clusters, fewer points take as long.
SIZES = ((440_000, 10), (220_000, 30), (110_000, 100), (22_000, 1_000))


def kmeans_cases(device: Device, quick: bool) -> list[Case]:
    """From the paper's size, with 10 clusters, to 1,000 clusters."""
    found = []
    for count, clusters in ((2_000, 10),) if quick else SIZES:
        work = {"count": count, "dim": DIM, "clusters": clusters, "iterations": ITERATIONS}
        libraries = (("faiss-cpu", "faiss_clustering"), ("scikit-learn", "sklearn_clustering"))
        peers = tuple(peer(name, f"kmeans_libraries:{function}", work) for name, function in libraries)
        found.append(Case("kmeans", f"{count:,} x {DIM}, K = {clusters:,}", ours(clustering, work), peers))
    return found


def clustering(count: int, dim: int, clusters: int, iterations: int) -> Prepared:
    """Points split over the devices, as in training."""
    points, centroids = points_and_centroids(count, dim, clusters)
    sharded = parallel.shard(points, count), parallel.shard(np.ones(count, np.float32), count)
    del points

    def run(_: Any, sharded: tuple[Array, Array], centroids: Float[Array, "clusters dim"]) -> KMeansResult:
        points, weights = sharded
        return kmeans(
            jax.random.key(0),  # draws nothing if the centroids are given
            points,
            weights,
            clusters=clusters,
            iterations=iterations,
            initial_centroids=centroids,
            axis_name=parallel.AXIS,
        )

    program: Any = parallel.parallel(run)
    compile_seconds, cached = compile_times(lambda: program.lower((), sharded, centroids).compile())
    # What the compiler allocates on a device, arguments and results included, as a multiple of the points' own size.
    sizes = program.lower((), sharded, centroids).compile().memory_analysis()
    needed = sizes.argument_size_in_bytes + sizes.output_size_in_bytes + sizes.temp_size_in_bytes
    memory = needed / (sharded[0].nbytes / jax.local_device_count())

    def repeat() -> dict[str, float]:
        result = jax.block_until_ready(program((), sharded, centroids))
        return {"objective": float(parallel.first_replica(result.objective)), "memory / embeddings": memory}

    repeat()
    return Prepared(repeat, 1, compile_seconds, cached, floor_seconds(iterations * sharded[0].nbytes))
