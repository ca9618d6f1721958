"""Runs K-means on one and on eight virtual devices and prints the differences; started by test_kmeans_devices.py."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache, partial

import jax
import numpy as np

from emocluster_jax.clustering.embedding_transform import fit_transform
from emocluster_jax.clustering.kmeans import kmeans

DEVICES = 8


def spread(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows split over the devices in order, padded at the end; and their weights."""
    padding = -len(points) % DEVICES
    padded = np.concatenate([points, np.full((padding, points.shape[1]), 7.0, np.float32)])
    weights = np.repeat(np.float32([1, 0]), [len(points), padding])
    return padded.reshape(DEVICES, -1, points.shape[1]), weights.reshape(DEVICES, -1)


@cache
def clusterers(clusters: int, initialization: str) -> tuple[Callable, Callable]:
    """K-means on one device and on all; cached, so that cases of one shape are compiled once."""
    one = partial(kmeans, jax.random.key(1), clusters=clusters, iterations=5, initialization=initialization)
    return one, jax.pmap(partial(one, axis_name="devices"), axis_name="devices")


def compare(points: np.ndarray, clusters: int, initialization: str) -> dict[str, float]:
    on_one, on_many = clusterers(clusters, initialization)
    one, many = on_one(points), on_many(*spread(points))
    return {
        "centroids": float(np.abs(many.centroids - one.centroids).max()),
        "assignments": float(np.mean(np.ravel(many.assignments)[: len(points)] != one.assignments)),
        "objective": float(np.abs(many.objective - one.objective).max() / max(float(one.objective), 1e-6)),
        "reseeded": float(np.abs(many.reseeded - one.reseeded).max()),
        "clusters_on_one": len(np.unique(one.assignments)),
    }


def objective_of_an_infinite_point(points: np.ndarray) -> list[str]:
    """On one device and on all, by the programs that are compiled anyway."""
    infinite = points.copy()
    infinite[7, 3] = np.inf
    on_one, on_many = clusterers(10, "random")
    return [str(float(np.max(result.objective))) for result in (on_one(infinite), on_many(*spread(infinite)))]


def compare_transform(points: np.ndarray) -> float:
    one = fit_transform(points, components=3, whiten=True)
    fit = partial(fit_transform, components=3, whiten=True, axis_name="devices")
    many = jax.pmap(fit, axis_name="devices")(*spread(points))
    return float(np.abs(many.projection - one.projection).max())


def main() -> None:
    rng = np.random.default_rng(0)
    points = (rng.normal(size=(1003, 6)) * np.arange(1, 7)).astype(np.float32)
    few = np.repeat(points[:11], 8, axis=0)
    fewer = points[np.arange(88) % 9]
    results = {
        "devices": jax.local_device_count(),
        "random": compare(points, 10, "random"),
        "kmeans++": compare(points, 10, "kmeans++"),
        "duplicates": compare(few, 11, "random"),
        "fewer distinct points": compare(fewer, 11, "random"),
        "infinite point": objective_of_an_infinite_point(points),
        "transform": compare_transform(points),
    }
    print(json.dumps(results))


if __name__ == "__main__":
    main()
